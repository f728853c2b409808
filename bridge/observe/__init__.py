"""What operators see of a running daemon: metrics, its last hour, readiness, webhooks.

The rooms below do not know of this one.
"""
