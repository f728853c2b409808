"""A name server that never answers: who needs it waits, and nobody else does."""

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from tests.end_to_end.web import open_socket
from tests.hostile.clients import dials
from tests.hostile.conftest import STOP_LIMIT_S
from tests.hostile.stage import KEY, OPERATOR, Target, attacked, serve
from tests.machine import scaled

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_NAMES = 12  # three times as many as the event loop has threads for names
_CONNECT_TIMEOUT_S = 2
_TOLD_S = 3 * _CONNECT_TIMEOUT_S + 3  # three tries, and the pauses between them
_SETTINGS = """
upstream_connect_timeout_s = {connect_timeout_s}
{far}
[upstreams.near]
url = "{near}"
models = ["near"]
"""
_FAR = """
[upstreams.far{number}]
url = "{scheme}://far{number}.example/v1/realtime"
models = ["far{number}"]
"""
_RESOLV_CONF = "nameserver {address}\noptions timeout:20 attempts:1\n"
_MOUNT = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


@pytest.fixture(scope="module")
def name_server() -> Iterator[socket.socket]:
    """Takes every question, and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        process = os.getpid()
        silent.bind((f"127.53.{process >> 8 & 255}.{process & 255}", 53))
        silent.settimeout(scaled(5.0))
        yield silent


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Another bridge, whose name is known without a name server."""
    with serve(tmp_path_factory.mktemp("near") / "log", "--drain-s", "0") as running:
        yield running


@pytest.fixture(scope="module")
def target(name_server: socket.socket, near: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon with many upstreams, which looks all names up at the silent server."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "resolv.conf").write_text(_RESOLV_CONF.format(address=name_server.getsockname()[0]))
    schemes = "ws", "https"
    far = "".join(_FAR.format(number=number, scheme=schemes[number % 2]) for number in range(_NAMES))
    url = f"ws://localhost:{near.address.port}/v1/realtime"
    settings = _SETTINGS.format(connect_timeout_s=_CONNECT_TIMEOUT_S, far=far, near=url)
    (folder / "bridge.toml").write_text(settings)
    within = "unshare", "--mount", "sh", "-c", _MOUNT, "sh", str(folder / "resolv.conf")
    flags = "--config", str(folder / "bridge.toml"), "--api-key", KEY, "--drain-s", "0"
    with serve(folder / "log", *flags, within=within) as running:
        yield running
        if running.is_running:
            running.stop(STOP_LIMIT_S)


async def test_names_that_nobody_answers_for(target: Target, name_server: socket.socket) -> None:
    """Calls that wait for a name are told in time, and a call that speaks notices nothing."""
    outcome = await attacked(target, dials, [f"far{number}" for number in range(_NAMES)])
    outcome.require_harmless()
    codes, slowest_s = outcome.answer
    assert set(codes) <= {"upstream_lost", "upstream_timeout"}
    assert slowest_s < _TOLD_S + scaled(2.0)


async def test_a_known_name_while_others_are_looked_up(target: Target, name_server: socket.socket) -> None:
    """The event loop's threads are free for it."""
    async with asyncio.TaskGroup() as tasks:
        far = [tasks.create_task(_opened(target, f"far{number}")) for number in range(_NAMES)]
        await asyncio.to_thread(_until_asked, name_server, {f"far{number}" for number in range(_NAMES)})
        began = asyncio.get_running_loop().time()
        await _opened(target, "near")
        assert asyncio.get_running_loop().time() - began < scaled(1.0)
        assert not any(task.done() for task in far)
        for task in far:
            task.cancel()


def _until_asked(name_server: socket.socket, names: set[str]) -> None:
    """Reads questions until each name has been asked for (RFC 1035 section 4.1.2: a label is its length and itself)."""
    while names:
        question = name_server.recv(512)
        names -= {question[13 : 13 + question[12]].decode()}


async def _opened(target: Target, model: str) -> None:
    async with open_socket(target.url, f"model={model}", additional_headers=OPERATOR) as caller:
        await caller.until("session.created")
