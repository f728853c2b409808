"""Other ways to say the same: dialects of the Realtime protocol, translated to and from GA at the edge."""

__all__: list[str] = []
