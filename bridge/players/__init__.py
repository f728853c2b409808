"""Players: who hears a running call over WebRTC, and says nothing (WHEP)."""

__all__: list[str] = []
