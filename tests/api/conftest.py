"""The daemon of the end-to-end tests, for what its endpoints say."""

from tests.end_to_end.conftest import _peers_use_loopback, daemon, offer, serve_with, short_pcm

__all__ = ["_peers_use_loopback", "daemon", "offer", "serve_with", "short_pcm"]
