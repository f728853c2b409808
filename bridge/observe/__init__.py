"""What operators see of a running daemon: metrics, its last hour, readiness, webhooks.

No other room knows of this one.
"""
