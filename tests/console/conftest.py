"""What the console's tests share: a daemon, one of their event loops, and the packages that judge a page."""

from typing import Any

import pytest

from tests.end_to_end.conftest import _peers_use_loopback, daemon, serve_with, short_pcm
from tests.foreign.conftest import node_packages

__all__ = ["_peers_use_loopback", "daemon", "node_packages", "serve_with", "short_pcm"]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}
