"""The carrier Genesys AudioHook Monitor, which only listens."""
