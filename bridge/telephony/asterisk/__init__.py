"""Asterisk's chan_websocket: calls that Asterisk brings, and calls that wait in it to be fetched."""
