"""The carrier Sinch, by its voice streams."""
