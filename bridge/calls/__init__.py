"""The one way to a call, with its keys and limits, and interfaces for what several processes may share."""

__all__: list[str] = []
