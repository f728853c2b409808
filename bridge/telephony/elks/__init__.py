"""46elks' real-time voice."""
