"""The carrier Twilio, by its Media Streams, and others that speak the same dialect."""
