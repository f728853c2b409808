"""The carrier Azure Communication Services, by its bidirectional audio."""
