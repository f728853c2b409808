"""The carrier Telnyx, by its media streaming."""
