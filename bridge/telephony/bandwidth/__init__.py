"""Bandwidth's StartStream, both ways."""
