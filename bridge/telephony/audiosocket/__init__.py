"""Asterisk's AudioSocket, on a TCP port of its own."""
