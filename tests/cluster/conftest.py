"""What the tests of clusters share with those of one daemon."""

from tests.end_to_end.conftest import _peers_use_loopback, short_pcm

__all__ = ["_peers_use_loopback", "short_pcm"]
