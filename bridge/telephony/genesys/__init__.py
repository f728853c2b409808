"""Genesys Audio Connector, in AudioHook's protocol."""
