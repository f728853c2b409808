"""Server-side WebRTC-to-WebSocket media bridge for the OpenAI-style Realtime API."""

__all__ = ["__version__"]

__version__ = "0.1.0"
