"""The carrier Vonage, by the WebSockets of its Voice API."""
