"""Recordings that go to an object store which nobody here wrote: SeaweedFS, over S3's own protocol."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store
from websockets.asyncio.client import ClientConnection, connect

from bridge.daemon import Daemon
from tests.end_to_end.serving import free_port
from tests.end_to_end.web import open_socket, request
from tests.frameworks.conftest import python_of
from tests.machine import scaled
from tests.processes import clean_environ, started
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(90)]

_LIMIT_S = scaled(40.0)
_KEY, _SECRET, _BUCKET = "tests", "secret-of-the-tests", "calls"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def _seaweed(folder: Path, port: int) -> AsyncIterator[None]:
    """A store that asks for signatures, and keeps what it has in ``folder``; it answers when the block begins."""
    credentials = [{"accessKey": _KEY, "secretKey": _SECRET}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    settings = folder.with_suffix(".json")
    await asyncio.to_thread(settings.write_text, json.dumps({"identities": [identity]}))
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    ports = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")]
    program = str(Path(python_of("deploy")).with_name("weed"))
    command = (program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports, f"-s3.port={port}",
               f"-s3.config={settings}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false",
               "-admin.ui=false")  # fmt: skip
    output = asyncio.subprocess.DEVNULL
    async with started(*command, environ=clean_environ(), stdout=output, stderr=output) as process:
        async with asyncio.timeout(_LIMIT_S):
            while True:
                assert process.returncode is None
                try:
                    await request("GET", f"http://127.0.0.1:{port}/")
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield


async def test_a_recording_is_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits while the store is away, also through a restart, and is there and told when the store is back."""
    port, folder = free_port(), tmp_path / "recordings"
    folder.mkdir()
    environ = {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    config = config_for_tests(record_dir=str(folder), record_calls=True, record_upload=f"s3://{_BUCKET}/2026")
    async with Daemon(config) as daemon:
        async with open_socket(daemon.url, "model=any") as owner:
            created = await owner.until("session.created")
        call_id = created["session"]["id"]
    waiting = sorted(path.name.partition(".")[2] for path in await asyncio.to_thread(lambda: list(folder.iterdir())))
    assert waiting == ["jsonl", "ogg", "upload"]
    async with (
        Daemon(config) as daemon,
        connect(f"ws://127.0.0.1:{daemon.port}/v1/calls/events", proxy=None) as watcher,
    ):
        async with _seaweed(tmp_path / "seaweed", port), asyncio.timeout(_LIMIT_S):
            told = await _uploaded(watcher)
            await _require_in_store(told, call_id)
            while True:
                if not await asyncio.to_thread(lambda: list(folder.iterdir())):
                    break
                await asyncio.sleep(0.02)


async def _uploaded(watcher: ClientConnection) -> dict[str, Any]:
    """The event that tells of it."""
    while True:
        told: dict[str, Any] = json.loads(await watcher.recv())
        if told["type"] == "bridge.recording.uploaded":
            return told


async def _require_in_store(told: dict[str, Any], call_id: str) -> None:
    assert told["call_id"] == call_id
    assert [url.rpartition("/")[0] for url in told["urls"]] == [f"s3://{_BUCKET}/2026"] * 2
    store = S3Store(_BUCKET, client_options={"allow_http": True})
    for name in told["files"]:
        found = await obstore.get_async(store, f"2026/{name}")
        content = bytes(await found.bytes_async())
        assert content.startswith(b"OggS") if name.endswith(".ogg") else b"session.created" in content
