"""Twilio Media Streams, and whoever speaks its dialect."""
