"""Daemons for foreign peers, and the packages of those that run in Node."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.foreign.peers import FOLDER, write_speech
from tests.sdk_js.node import install
from tests.settings import config_for_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is foreign, takes seconds, and may have to install its packages first."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.foreign)
            item.add_marker(pytest.mark.timeout(60, func_only=True))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def node_packages() -> None:
    """The peers that run in Node, as the lock file has them."""
    install(FOLDER)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon on free ports of loopback whose engine repeats what it hears."""
    async with Daemon(config_for_tests()) as serving:
        yield serving


@pytest.fixture(scope="session")
def short_pcm(speech_pcm: bytes) -> bytes:
    """The first words of the recording, up to a pause, PCM16 24 kHz mono; 2.2 s."""
    return speech_pcm[: 2 * 24 * 2200]


@pytest.fixture
def speech(tmp_path: Path, short_pcm: bytes) -> dict[str, str]:
    """Those words and the silence that ends a turn, as inputs of a peer."""
    return write_speech(tmp_path, short_pcm + bytes(2 * 24 * 1000))
