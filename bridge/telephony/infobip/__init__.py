"""The carrier Infobip: calls on a WebSocket, in Vonage's dialect."""
