"""The dialects of the Realtime protocol other than GA. The bridge translates them to and from GA at its edge."""

__all__: list[str] = []
