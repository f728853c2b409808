"""The carrier Genesys Audio Connector, which speaks the AudioHook protocol."""
