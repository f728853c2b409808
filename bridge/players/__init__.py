"""Players: clients that hear a running call over WebRTC, and say nothing (WHEP)."""

__all__: list[str] = []
