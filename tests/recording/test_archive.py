"""Recordings from their beginning to their end in a running daemon: made, encrypted, uploaded, deleted."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyrage
import pytest

from bridge.config import Config
from bridge.config.reload import Changes
from bridge.daemon import Daemon, check
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.settings import config_for_tests

_LIMIT_S = scaled(15.0)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


async def _finished(folder: Path, suffix: str) -> Path:
    """The first file with this end to its name."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            found = await asyncio.to_thread(lambda: list(folder.glob(f"*{suffix}")))
            if found:
                return Path(found[0])
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("sound_format", "magic"), [("ogg", b"OggS"), ("wav", b"RIFF")])
async def test_what_is_recorded_is_encrypted(tmp_path: Path, sound_format: str, magic: bytes) -> None:
    """Whoever has the key reads sound and events; the files that are on the disk meanwhile show nothing of them."""
    identity = pyrage.x25519.Identity.generate()
    settings = {
        "record_dir": str(tmp_path),
        "record_calls": True,
        "record_format": sound_format,
        "record_recipient": (str(identity.to_public()),),
    }
    async with Daemon(config_for_tests(**settings)) as daemon:
        async with open_socket(daemon.url, "model=any") as owner:
            await owner.until("session.created")
            await _finished(tmp_path, ".jsonl.age.part")
            await _finished(tmp_path, f".{sound_format}.age.part")
        lines = await _finished(tmp_path, ".jsonl.age")
        sound = await _finished(tmp_path, f".{sound_format}.age")
    written = lines.read_bytes()
    assert b"session.created" not in written
    events = [json.loads(line)["event"]["type"] for line in pyrage.decrypt(written, [identity]).splitlines()]
    assert events[0] == "session.created"
    assert pyrage.decrypt(sound.read_bytes(), [identity]).startswith(magic)


async def test_limits_of_what_is_kept_are_read_again(tmp_path: Path) -> None:
    """A limit that is set while the daemon runs counts at the next look, and the metrics say what is kept."""
    for number in range(3):
        (tmp_path / f"rtc_{number}-rec_{number}.ogg").write_bytes(bytes(1000))
    limits: dict[str, Any] = {}

    def read() -> Config:
        return config_for_tests(record_dir=str(tmp_path), **limits)

    async with Daemon(read(), read_settings=read) as daemon:
        limits.update(record_max_bytes=2000, record_max_age_s=3600.0)
        changes = await daemon.reload()
        assert changes == Changes(live=("record_max_age_s", "record_max_bytes"))
        archive = daemon.reloader.rooms.archive
        assert archive is not None
        keep = archive.keep
        assert (keep.age_s, keep.size_bytes) == (3600.0, 2000)
        async with asyncio.timeout(scaled(10.0)):
            while archive.stats().kept != 3:  # noqa: ASYNC110  # a thread counts them
                await asyncio.sleep(0.01)
        page = (await request("GET", f"{daemon.url}metrics")).body.decode()
    assert "bridge_recordings_deleted_total 0.0" in page
    assert "bridge_recordings_kept_bytes 3000.0" in page


def test_a_check_of_the_settings_finds_what_a_start_would() -> None:
    """A recipient with a wrong letter is told without a start."""
    wrong = {"record_dir": "/tmp", "record_recipient": ("age1" + "q" * 58,), "record_upload": "s3://calls"}
    assert [fault.param for fault in check(config_for_tests(**wrong))] == ["record_recipient"]
