"""Settings that change while calls run: SIGHUP to a daemon of its own, as whoever runs it sends it."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiortc.rtcdtlstransport import generate_certificate
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.end_to_end.event_log import inbound_sound, stream_numbers
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import LIMIT_S, Serving, serving
from tests.end_to_end.sound import samples_of, stretched_likeness
from tests.end_to_end.web import TRUSTING, open_socket, request

pytestmark = pytest.mark.slow

_FRAME_S = 0.020
_SILENT_CALLS = 38  # beside two that speak


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


class _Files:
    """The daemon's file of settings, and what it names."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.keys = folder / "keys"
        self._settings = folder / "bridge.toml"
        self._cert, self._key = folder / "cert.pem", folder / "key.pem"

    def write(self, text: str = "") -> None:
        """The settings, as an editor saves them."""
        self._settings.write_text(text)

    def write_certificate(self) -> bytes:
        """A new certificate in the place of the old one; its DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = generate_certificate(key)
        self._cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate.public_bytes(Encoding.DER)

    def write_another_key(self) -> None:
        """One that is not the certificate's."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @property
    def tls(self) -> str:
        """The settings that turn HTTPS on."""
        return f'tls_cert = "{self._cert}"\ntls_key = "{self._key}"\n'

    @asynccontextmanager
    async def serving(self, *flags: str) -> AsyncIterator[Serving]:
        """A daemon with these settings."""
        async with serving(self.log, "--config", str(self._settings), "--drain-s", "0", *flags) as daemon:
            yield daemon


@pytest.fixture
def files(tmp_path: Path) -> _Files:
    """None of them is written yet."""
    return _Files(tmp_path)


async def _logged(daemon: Serving, event: str, *, number: int = 1) -> dict[str, Any]:
    """The ``number``-th line of the log with this event."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            lines = [line for line in daemon.log_lines() if line["event"] == event]
            if len(lines) >= number:
                return lines[number - 1]
            await asyncio.sleep(0.01)


async def _reloaded(daemon: Serving, *, number: int = 1, event: str = "config.reloaded") -> dict[str, Any]:
    """The line that a signal leaves in the log."""
    daemon.process.send_signal(signal.SIGHUP)
    return await _logged(daemon, event, number=number)


async def _served_certificate(url: str, name: str | None = None) -> bytes:
    """What a new connection is shown, as DER; ``name`` is the server that it asks for."""
    parts = urlsplit(url)
    async with asyncio.timeout(LIMIT_S):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=TRUSTING, server_hostname=name or "")
        try:
            connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
            shown = connection.getpeercert(binary_form=True)
            assert shown is not None
            return shown
        finally:
            writer.close()
            await writer.wait_closed()


async def _status(daemon: Serving, key: str) -> int:
    return (await request("GET", f"{daemon.url}v1/calls", headers={"Authorization": f"Bearer {key}"})).status


async def test_a_new_certificate_under_forty_calls(files: _Files, speech_pcm: bytes) -> None:
    """It is served to new connections, those that are open go on, and no listener misses a sample of what is said."""
    shown = [files.write_certificate()]
    files.write(files.tls)
    async with files.serving() as daemon, AsyncExitStack() as calls:
        assert daemon.url.startswith("https://")
        speakers = [await calls.enter_async_context(RealPeer(daemon.url)) for _ in range(2)]
        silent = [await calls.enter_async_context(open_socket(daemon.url, "model=any")) for _ in range(_SILENT_CALLS)]
        queries = [f"call_id={peer.call_id}&audio=pcm16" for peer in speakers]
        listeners = [await calls.enter_async_context(open_socket(daemon.url, query)) for query in queries]
        async with asyncio.TaskGroup() as speaking:
            for peer in speakers:
                speaking.create_task(peer.speak(speech_pcm))
            for number in (1, 2, 3):
                await listeners[0].until("input_audio_buffer.append", number=60 * number)
                assert await _served_certificate(daemon.url) == shown[-1]
                shown.append(files.write_certificate())
                await _reloaded(daemon, number=number)
                assert await _served_certificate(daemon.url) == shown[-1]
                assert await _served_certificate(daemon.url, "bridge.example") == shown[-1]
        assert len((await request("GET", f"{daemon.url}v1/calls")).json["data"]) == _SILENT_CALLS + len(speakers)
        assert not any(client.closed.is_set() for client in (*silent, *listeners))
        await asyncio.gather(*(client.send({"type": "response.create"}) for client in silent))
        await asyncio.gather(*(client.until("response.done") for client in silent))
        for peer, listener in zip(speakers, listeners, strict=True):
            await request("DELETE", f"{daemon.url}v1/realtime/calls/{peer.call_id}")
            assert await listener.close_code() == 1000
            heard = samples_of(inbound_sound(listener.events))
            assert abs(len(heard) / 24_000 - peer.microphone.frames * _FRAME_S) <= _FRAME_S
            assert stretched_likeness(heard, samples_of(speech_pcm)) > 0.9
            numbers = stream_numbers(listener.of("input_audio_buffer.append"))
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert daemon.complaints() == []


async def test_a_certificate_that_is_half_written(files: _Files) -> None:
    """The old one is served on, and the log says what is wrong; when the other half has come, the new one is."""
    old = files.write_certificate()
    files.write(files.tls)
    async with files.serving() as daemon:
        files.write_another_key()
        refused = await _reloaded(daemon, event="config.reload_refused")
        assert refused["setting"] == "tls_cert"
        assert await _served_certificate(daemon.url) == old
        new = files.write_certificate()
        await _reloaded(daemon)
        assert await _served_certificate(daemon.url) == new


async def test_a_mistake_in_the_file_changes_nothing(files: _Files) -> None:
    """The running settings stay, whatever stands beside the mistake, and the log names it and where it is."""
    files.keys.write_text("old")
    files.write(f'api_key_file = "{files.keys}"\nmax_calls = 5\n')
    async with files.serving() as daemon:
        for number, (text, setting) in enumerate(
            [
                ("max_calls = 'many'\n", "max_calls"),
                ("max_cals = 6\n", "max_cals"),
                ("max_calls = 6\nrecord_calls = true\n", "record_calls"),
                ("max_calls = 6\n[server\n", "config"),
            ],
            start=1,
        ):
            files.keys.write_text("new")
            files.write(f'api_key_file = "{files.keys}"\n{text}')
            refused = await _reloaded(daemon, number=number, event="config.reload_refused")
            assert refused["setting"] == setting
            assert "bridge.toml" in refused["problem"]
            assert [await _status(daemon, key) for key in ("old", "new")] == [200, 401]
        reply = await request("POST", f"{daemon.url}v1/config/reload", headers={"Authorization": "Bearer old"})
        assert (reply.status, reply.json["error"]["param"]) == (400, "config")
        assert "not TOML" in reply.json["error"]["message"]


async def test_keys_are_added_and_taken_away(files: _Files) -> None:
    """A key counts from the signal on, and no longer; a socket that it has opened goes on. No key is in the log."""
    files.keys.write_text("first-key")
    files.write(f'api_key_file = "{files.keys}"\n')
    async with files.serving() as daemon:
        headers = {"Authorization": "Bearer first-key"}
        async with open_socket(daemon.url, "model=any", additional_headers=headers) as owner:
            files.keys.write_text("first-key\nsecond-key\n")
            reloaded = await _reloaded(daemon)
            assert reloaded["live"] == ["api_key"]
            assert [await _status(daemon, key) for key in ("first-key", "second-key")] == [200, 200]
            files.keys.write_text("second-key\n")
            await _reloaded(daemon, number=2)
            assert [await _status(daemon, key) for key in ("first-key", "second-key")] == [401, 200]
            await owner.send({"type": "response.create"})
            await owner.until("response.done")
    assert "-key" not in daemon.log.replace("api_key", "")


async def test_what_needs_a_restart_is_named(files: _Files) -> None:
    """In the log as a warning, and in the answer, each time until then."""
    files.write()
    async with files.serving() as daemon:
        files.write("metrics_port = 9999\nresume_grace_s = 1\n")
        await _reloaded(daemon)
        assert (await _logged(daemon, "config.restart_needed"))["settings"] == ["metrics_port"]
        reply = await request("POST", f"{daemon.url}v1/config/reload")
        assert reply.json == {"object": "config.reload", "live": [], "new_calls": [], "restart": ["metrics_port"]}
        files.write("resume_grace_s = 1\n")
        reply = await request("POST", f"{daemon.url}v1/config/reload")
        assert reply.json["restart"] == []


async def test_the_log_of_a_running_call_follows_the_level(files: _Files) -> None:
    """A level that is changed at night is of use for the call that goes wrong now."""
    files.write("log_level = 'warning'\n")
    async with files.serving() as daemon:
        async with open_socket(daemon.url, "model=any") as owner:
            call_id = owner.events[0]["session"]["id"]
            files.write("log_level = 'info'\n")
            await _reloaded(daemon)
        closed = await _logged(daemon, "call.closed")
    assert closed["call_id"] == call_id
    assert "call.opened" not in [line["event"] for line in daemon.log_lines()]


async def test_flags_and_variables_count_as_at_the_start(files: _Files) -> None:
    """What was given in another way than the file is not forgotten by a reload."""
    files.write("max_calls = 5\n")
    async with files.serving("--max-listeners-per-call", "1") as daemon:
        files.write("max_calls = 6\nmax_listeners_per_call = 7\n")
        assert (await _reloaded(daemon))["live"] == ["max_calls"]


async def test_a_terminal_that_is_closed_takes_the_daemon_along(tmp_path: Path) -> None:
    """SIGHUP means that settings have changed, unless the terminal that the daemon was started on has gone."""
    terminal, end = os.openpty()
    with os.fdopen(terminal, "rb") as window, os.fdopen(end, "rb"):
        async with serving(tmp_path / "log", stdin=end) as daemon:
            await _reloaded(daemon)
            window.close()
            await daemon.stop(signal.SIGHUP)
    assert daemon.complaints() == []
