"""Asterisk's chan_websocket: calls that it brings, and calls that wait in it to be fetched."""
