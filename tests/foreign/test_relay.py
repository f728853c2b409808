"""coturn between the bridge and an upstream over WebRTC that it reaches no other way."""

import asyncio
import base64
import re
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.upstream import plan
from tests.certificate import write_signed_certificate
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket
from tests.foreign.network import inside, network
from tests.foreign.peers import LIKENESS, heard_by
from tests.machine import scaled
from tests.processes import ROOT, started
from tests.sdk_js.node import Scenario, scenario
from tests.settings import config_for_tests

_LIMIT_S = scaled(10.0)
_PIECE_BYTES = 2 * 24 * 100
_USER = "bridge:secret"
_PORT, _TLS_PORT = 3478, 5349
_WAYS = [("turn", "udp"), ("turn", "tcp"), ("turns", "tcp")]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the service runs, its address, and the relay that has a foot in both networks, with its log."""

    namespace: str
    near: str
    service: str
    log: Path

    def relay(self, scheme: str = "turn", transport: str = "udp") -> str:
        """As the setting has it."""
        port = _TLS_PORT if scheme == "turns" else _PORT
        return f"{scheme}:{_USER}@{self.near}:{port}?transport={transport}"


async def _accepting(host: str, port: int) -> None:
    """Returns once the relay's port is open."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Place]:
    """Bridge, relay and service in a row; the relay forwards nothing but what it relays."""
    found = shutil.which("turnserver")
    assert found, "needs coturn: make foreign"
    log = tmp_path / "turn.log"
    async with network() as net:
        middle, far = await net.namespace(), await net.namespace()
        _, near = await net.link(None, middle)
        outer, service = await net.link(middle, far)
        authority, certificate, key = write_signed_certificate(tmp_path, near)
        monkeypatch.setattr(plan, "TLS", ssl.create_default_context(cafile=authority))
        command = [
            *(*inside(middle), found, "-n", "--lt-cred-mech", f"--user={_USER}", "--realm=test", "--verbose"),
            *(f"--listening-ip={near}", f"--listening-port={_PORT}", f"--relay-ip={outer}", "--no-dtls"),
            *(f"--tls-listening-port={_TLS_PORT}", f"--cert={certificate}", f"--pkey={key}"),
            *("--no-cli", "--log-file=stdout", "--simple-log", f"--pidfile={tmp_path / 'turn.pid'}"),
            f"--userdb={tmp_path / 'turn.db'}",
        ]
        with log.open("wb") as output:
            async with started(*command, stdout=output, stderr=asyncio.subprocess.STDOUT):
                await _accepting(near, _PORT)
                await _accepting(near, _TLS_PORT)
                yield _Place(far, near, service, log)


@asynccontextmanager
async def _service(place: _Place, **inputs: Any) -> AsyncIterator[tuple[Scenario, str]]:
    module = "tests.foreign.service_behind_relay"
    async with scenario(module, place.namespace, folder=ROOT, command=(sys.executable, "-m"), **inputs) as log:
        yield log, (await log.until("service.ready"))["url"]


def _relayed_to(log: str) -> set[str]:
    """The addresses with which packets were exchanged, as coturn tells."""
    return set(re.findall(r": peer ([\d.]+):\d+ lifetime updated", log))


@pytest.mark.parametrize(("scheme", "transport"), _WAYS, ids=["udp", "tcp", "tls"])
@pytest.mark.parametrize("service_hangs_up", [True, False], ids=["service-hangs-up", "client-hangs-up"])
async def test_it_carries_the_call(
    place: _Place, tmp_path: Path, short_pcm: bytes, service_hangs_up: bool, scheme: str, transport: str
) -> None:
    """The service hears all that the client appends, its answer comes as deltas, and either may hang up."""
    words = samples_of(short_pcm)
    answer = tmp_path / "answer.pcm"
    answer.write_bytes(short_pcm)
    async with _service(place, answer=str(answer), hangsUp=service_hangs_up) as (service, url):
        config = config_for_tests(upstream=url, upstream_ice_server=(place.relay(scheme, transport),))
        async with Daemon(config) as daemon:
            async with open_socket(daemon.url, "model=any") as client:
                [session] = daemon.registry.sessions
                for at in range(0, len(short_pcm), _PIECE_BYTES):
                    audio = base64.b64encode(short_pcm[at : at + _PIECE_BYTES]).decode()
                    await client.send({"type": "input_audio_buffer.append", "audio": audio})
                await client.send({"type": "input_audio_buffer.commit"})
                await client.send({"type": "response.create"})
                await client.until("response.done")
                if service_hangs_up:
                    service.end_input()
                    assert await client.close_code() in (1000, 1001)
            await session.lifetime.closed.wait()
            if not service_hangs_up:
                await service.until("peer.gone")
                service.end_input()
    assert client.of("error") == []
    assert match(heard_by(service.of("peer.heard")[0]), words).correlation > LIKENESS
    assert match(samples_of(outbound_sound(client.events)), words).correlation > LIKENESS
    assert _relayed_to(place.log.read_text()) == {place.service}


async def test_without_it_there_is_no_way(place: _Place, tmp_path: Path) -> None:
    """The same service, no relay: the call fails, so what the other calls went through was the relay."""
    async with _service(place) as (service, url):
        config = config_for_tests(upstream=url, upstream_tries=1, upstream_connect_timeout_s=2)
        async with Daemon(config) as daemon:
            async with open_socket(daemon.url, "model=any", first="error") as client:
                [error] = client.of("error")
                await client.close_code()
            service.end_input()
    assert error["error"]["code"] == "upstream_timeout"
