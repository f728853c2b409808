"""What operators see of a running daemon: metrics, its last hour, readiness, webhooks. Nothing below knows of it."""
