"""A whole daemon in this process, on free ports of loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from bridge.daemon import Daemon
from tests.settings import config_for_tests

ServeWith = Callable[..., AbstractAsyncContextManager[Daemon]]


def _serve_with(**settings: Any) -> Daemon:
    return Daemon(config_for_tests(**settings))


@pytest.fixture(autouse=True)
def _peers_use_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's candidates are of 127.0.0.1, which it would leave out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
def serve_with() -> ServeWith:
    """``async with serve_with(max_calls=1) as daemon``."""
    return _serve_with


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon with default settings, but for its ports, that does not wait for calls at its end."""
    async with _serve_with() as serving:
        yield serving


@pytest.fixture
async def offer() -> str:
    """An offer as aiortc makes it."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.createDataChannel("oai-events")
    connection.addTransceiver("audio")
    await connection.setLocalDescription(await connection.createOffer())
    sdp: str = connection.localDescription.sdp
    await connection.close()
    return sdp


@pytest.fixture(scope="session")
def short_pcm(speech_pcm: bytes) -> bytes:
    """The first words of the recording, up to a pause, and the silence that ends a turn: 2.2 s and 0.8 s."""
    return speech_pcm[: 2 * 24 * 2200] + bytes(2 * 24 * 800)
