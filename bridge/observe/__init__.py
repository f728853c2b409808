"""What operators see of a running daemon: metrics, readiness, webhooks. It subscribes; nothing below knows of it."""
