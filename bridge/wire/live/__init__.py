"""The words of the Live protocol (``/v1/live/sessions``): its sessions, client events and server events."""

__all__: list[str] = []
