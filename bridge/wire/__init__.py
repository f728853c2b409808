"""The words of the Realtime protocol: its events, sessions and audio formats.

Nothing here does I/O or reads a clock.
"""

__all__: list[str] = []
