"""The one way to a call, its keys and limits; interfaces for what several processes may share."""

__all__: list[str] = []
