"""What every test may use: both event loops, a watch for blocking calls, and a recording of speech."""

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

__all__: list[str] = []

_DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each async test runs once on asyncio's own loop and once on uvloop."""
    return "asyncio", {"use_uvloop": request.param, "debug": False}


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """In an async test, a blocking call made by ``bridge`` inside the event loop is an error."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with blockbuster_ctx("bridge"):
        yield


@pytest.fixture(scope="session")
def speech_pcm() -> bytes:
    """Real speech: PCM16, 24 kHz, mono."""
    with wave.open(str(_DATA / "speech.wav"), "rb") as recording:
        assert (recording.getframerate(), recording.getsampwidth(), recording.getnchannels()) == (24_000, 2, 1)
        return recording.readframes(recording.getnframes())
