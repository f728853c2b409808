"""Genesys AudioHook Monitor, which only listens."""
