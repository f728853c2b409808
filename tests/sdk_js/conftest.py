"""The JavaScript packages, a certificate that they trust, and daemons that ask for a key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioice.ice
import pytest

from bridge.daemon import Daemon
from tests.certificate import write_certificate
from tests.end_to_end.sound import encode
from tests.frameworks.conftest import sounds
from tests.sdk_js.node import API_KEY, FOLDER, WriteSound, install
from tests.settings import config_for_tests

__all__ = ["sounds"]

_PAUSE_BYTES = 2 * 24 * 1200  # more than the slowest end of a turn waits for


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    """The packages of this folder."""
    install(FOLDER)


@pytest.fixture(autouse=True)
def _peers_use_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's candidates are of 127.0.0.1, which it would leave out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def tls_daemon(tls: tuple[Path, Path]) -> AsyncIterator[Daemon]:
    """A daemon over TLS that wants ``API_KEY``."""
    certificate, key = map(str, tls)
    config = config_for_tests(api_key=(API_KEY,), tls_cert=certificate, tls_key=key)
    async with Daemon(config) as serving:
        yield serving


@pytest.fixture
def talking_to(tls: tuple[Path, Path], tls_daemon: Daemon) -> dict[str, Any]:
    """The inputs by which a scenario finds the daemon and trusts it."""
    return {"certificate": tls[0], "url": tls_daemon.url, "key": API_KEY}


@pytest.fixture
def write_sound(tmp_path: Path, speech_pcm: bytes) -> WriteSound:
    """Puts the recording and the silence that ends a turn into a file, in one of the session's formats."""

    def write(audio_format: str) -> str:
        path = tmp_path / f"speech.{audio_format}"
        path.write_bytes(encode(speech_pcm + bytes(_PAUSE_BYTES), audio_format))
        return str(path)

    return write


@pytest.fixture(scope="session")
def short_pcm(speech_pcm: bytes) -> bytes:
    """The first words of the recording, up to a pause, and the silence that ends a turn: 2.2 s and 0.8 s."""
    return speech_pcm[: 2 * 24 * 2200] + bytes(2 * 24 * 800)
