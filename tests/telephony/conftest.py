"""A daemon in this process with all its telephone endpoints open."""

from collections.abc import AsyncIterator

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith, daemon, serve_with, short_pcm
from tests.telephony.rows import SETTINGS

__all__ = ["daemon", "open_daemon", "serve_with", "short_pcm"]


@pytest.fixture
async def open_daemon(serve_with: ServeWith) -> AsyncIterator[Daemon]:
    """All endpoints are open, each by its own secret."""
    async with serve_with(**SETTINGS) as serving:
        yield serving
