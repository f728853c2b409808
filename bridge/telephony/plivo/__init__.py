"""The carrier Plivo, by its audio streaming."""
