"""The embedded engine: hears turns and answers them without any service."""
