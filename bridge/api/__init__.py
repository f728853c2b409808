"""Endpoints: HTTP and WebSocket on one TCP port, the keys that open them, and the console."""

__all__: list[str] = []
