"""Azure Communication Services, bidirectional audio."""
