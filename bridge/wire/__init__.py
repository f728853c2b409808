"""Words: events, sessions and audio formats of the Realtime protocol. Pure: no I/O, no clock."""

__all__: list[str] = []
