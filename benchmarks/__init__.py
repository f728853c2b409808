"""Measurements of the running daemon: CPU time of its process, never the wall clock."""

__all__: list[str] = []
