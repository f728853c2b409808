"""The carrier 46elks, by its real-time voice."""
