"""nginx and Caddy in front of the bridge, with the files that the guide has."""

import asyncio
import base64
import hashlib
import hmac
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from bridge.daemon import Daemon
from bridge.session.session import Session
from tests.certificate import write_certificate
from tests.end_to_end.one_way import playing, publishing
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.processes import ROOT, started
from tests.settings import config_for_tests

_KEY, _TOKEN = "sk-test", "the carrier's token"
_AUTHORIZED = {"Authorization": f"Bearer {_KEY}"}
_CLIENT = "127.0.0.9"  # it is not the proxy's own address, which is trusted
_LIMIT_S = scaled(10.0)
_HEARD_MS = 500
_CANDIDATE = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
_RESTART = f"a=ice-ufrag:fresh\r\na=ice-pwd:{'n' * 22}\r\n{_CANDIDATE}"
_SILENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Public:
    """Where the bridge is for others."""

    url: str
    daemon: Daemon

    def session(self) -> Session:
        """The only one."""
        [session] = self.daemon.registry.sessions
        return session


def _of_guide(language: str) -> str:
    """The file that the guide shows."""
    guide = (ROOT / "docs" / "guides" / "reverse-proxy.md").read_text()
    [text] = re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)
    return str(text)


def _nginx(folder: Path, daemon: Daemon, port: int, files: tuple[Path, Path]) -> list[str]:
    text = _replaced(
        _of_guide("nginx"),
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/bridge.pem": str(files[0]),
            "/etc/ssl/bridge.key": str(files[1]),
            "127.0.0.1:8080": f"127.0.0.1:{daemon.port}",
        },
    )
    paths = [f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    settings = folder / "nginx.conf"
    http = f"http {{ access_log off; {' '.join(paths)}\n{text}}}"
    settings.write_text(f"daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\n{http}\n")
    return [_found("nginx"), "-c", str(settings), "-e", "stderr", "-p", str(folder)]


def _caddy(folder: Path, daemon: Daemon, port: int, files: tuple[Path, Path]) -> list[str]:
    text = _replaced(
        _of_guide("caddy"),
        {
            "bridge.example.com {": f"https://127.0.0.1:{port} {{\n\ttls {files[0]} {files[1]}",
            "127.0.0.1:8080": f"127.0.0.1:{daemon.port}",
        },
    )
    settings = folder / "Caddyfile"
    settings.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    return ["env", f"HOME={folder}", _found("caddy"), "run", "--config", str(settings), "--adapter", "caddyfile"]


def _replaced(text: str, by: dict[str, str]) -> str:
    for old, new in by.items():
        assert text.count(old) == 1, f"the guide has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    return text


def _found(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found, f"needs {name}: make foreign"
    return found


@asynccontextmanager
async def _free_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield port


@pytest.fixture(params=[_nginx, _caddy], ids=["nginx", "caddy"])
async def public(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[_Public]:
    """The bridge behind a proxy that terminates TLS."""
    async with _free_port() as port:
        url = f"https://127.0.0.1:{port}/"
        behind = {"trusted_proxies": ("127.0.0.1",), "public_url": url.rstrip("/"), "api_key": (_KEY,)}
        async with Daemon(config_for_tests(**behind, twilio_auth_token=(_TOKEN,))) as daemon:
            command = request.param(tmp_path, daemon, port, write_certificate(tmp_path))
            async with started(*command, stdout=None, stderr=None):
                async with asyncio.timeout(_LIMIT_S):
                    while True:
                        with suppress(ConnectionRefusedError):
                            _, writer = await asyncio.open_connection("127.0.0.1", port)
                            writer.close()
                            break
                        await asyncio.sleep(0.02)
                yield _Public(url, daemon)


async def test_a_session_over_websocket(public: _Public) -> None:
    """It is the client's own address that the call has, and what an answer says comes at once."""
    async with open_socket(public.url, "model=any", additional_headers=_AUTHORIZED, local_addr=(_CLIENT, 0)) as client:
        assert public.session().info.context.caller.startswith(f"{_CLIENT}:")
        await client.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(4800)).decode()})
        await client.send({"type": "input_audio_buffer.commit"})
        await client.until("input_audio_buffer.committed")


async def test_an_offer_and_a_listener_for_the_whole_call(public: _Public) -> None:
    """The answer names the bridge's own UDP port; the listener outlives silence, and is told of the end."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    opened = asyncio.Event()
    connection.createDataChannel("oai-events").on("open", opened.set)
    connection.addTransceiver("audio")
    await connection.setLocalDescription(await connection.createOffer())
    headers = {**_AUTHORIZED, "Content-Type": "application/sdp", "Origin": public.url.rstrip("/")}
    sdp = connection.localDescription.sdp
    reply = await request("POST", f"{public.url}v1/realtime/calls", headers=headers, body=sdp)
    assert reply.status == 201, reply
    assert f" {public.daemon.endpoint.port} typ host" in reply.body.decode()
    call_id = reply.headers["location"].rpartition("/")[2]
    async with open_socket(public.url, f"call_id={call_id}&audio=pcm16", additional_headers=_AUTHORIZED) as listener:
        await asyncio.sleep(_SILENCE_S)
        hung_up = await request("DELETE", f"{public.url}v1/realtime/calls/{call_id}", headers=_AUTHORIZED)
        assert hung_up.status == 200
        assert await listener.close_code() == 1000
    await connection.close()


async def test_a_publisher_and_a_player(public: _Public, short_pcm: bytes) -> None:
    """WHIP's and WHEP's requests come through with their headers, ``PATCH`` and ``DELETE`` too; media goes direct."""
    async with publishing(public.url, headers=_AUTHORIZED) as publisher:
        where, tag = publisher.reply.headers["location"], publisher.reply.headers["etag"]
        session = publisher.session if where.startswith("/") else where.removeprefix(public.url)
        call_id = session.rpartition("/")[2]
        async with playing(public.url, f"v1/whep/{call_id}?tracks=input", headers=_AUTHORIZED) as player:
            await publisher.microphone.speak(short_pcm)
            async with asyncio.timeout(_LIMIT_S):
                while player.loud_ms < _HEARD_MS:
                    await request("GET", f"{public.url}healthz")
        for match, status in ((tag, 204), ('"another"', 412), (None, 428)):
            condition = {} if match is None else {"If-Match": match}
            headers = {**_AUTHORIZED, **condition, "Content-Type": "application/trickle-ice-sdpfrag"}
            reply = await request("PATCH", f"{public.url}{session}", headers=headers, body=_CANDIDATE)
            assert reply.status == status, reply
        restart = {**_AUTHORIZED, "If-Match": "*", "Content-Type": "application/trickle-ice-sdpfrag"}
        again = await request("PATCH", f"{public.url}{session}", headers=restart, body=_RESTART)
        assert again.status == 200, again
        assert again.headers["etag"] not in ("", tag)
        assert not again.headers["etag"].startswith("W/")
        assert (await request("DELETE", f"{public.url}{session}", headers=_AUTHORIZED)).status == 200
    assert (await request("GET", f"{public.url}{session}", headers=_AUTHORIZED)).status == 404


async def test_a_carrier_signs_the_public_address(public: _Public) -> None:
    """Twilio's signature is of the address that it calls, which the bridge knows by public_url."""
    url = f"{public.url}v1/telephony/twilio"
    signature = base64.b64encode(hmac.digest(_TOKEN.encode(), url.encode(), hashlib.sha1)).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    reply = await request("POST", url, headers=headers)
    assert reply.status == 200, reply
    assert f'url="{public.url.replace("https", "wss")}' in reply.body.decode()
    forged = {**headers, "X-Twilio-Signature": base64.b64encode(bytes(20)).decode()}
    assert (await request("POST", url, headers=forged)).status in (401, 403)
