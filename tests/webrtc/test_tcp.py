"""Media over TCP: framing, what a stranger may do on the port, and a whole call over it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from bridge.errors import ConfigError
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.ice import IceLite
from bridge.webrtc.sdp import parse_remote
from bridge.webrtc.tcp import MAX_STRANGERS_OF_A_HOST
from tests.machine import scaled
from tests.webrtc.calling import LOOPBACK, WITHIN_S, Caller
from tests.webrtc.conftest import Placing
from tests.webrtc.test_mux import check

_DTLS = bytes([22, 0xFE, 0xFD]) + bytes(60)


def framed(datagram: bytes) -> bytes:
    """With its length in front (RFC 4571 section 2)."""
    return struct.pack("!H", len(datagram)) + datagram


class Line:
    """A TCP connection to the endpoint."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def datagram(self) -> bytes:
        """The next one that comes."""
        async with asyncio.timeout(WITHIN_S):
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            return await self._reader.readexactly(length)

    async def is_closed(self) -> bool:
        """Waits for the end; True if nothing came before it."""
        async with asyncio.timeout(WITHIN_S):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """One that takes media over TCP as well."""
    async with Endpoint(LOOPBACK, 0, tcp_port=0) as endpoint:
        yield endpoint


@asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[Line]:
    line = Line(*await asyncio.open_connection(LOOPBACK, endpoint.tcp_port))
    try:
        yield line
    finally:
        await line.close()


async def test_a_check_in_crumbs(endpoint: Endpoint) -> None:
    """A check that comes byte by byte is answered, framed, and from then on the agent sends over the connection."""
    agent = endpoint.mux.new_agent()
    async with connected(endpoint) as line:
        for byte in framed(bytes(check(agent))):
            line.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await line.datagram())[:2] == b"\x01\x01"
        assert agent.connected.is_set()
        agent.send_datagram(_DTLS)
        assert await line.datagram() == _DTLS
        agent.close()
        assert await line.is_closed()
    assert endpoint.mux.by_address == {}
    assert not endpoint.mux.drops


async def test_many_at_once(endpoint: Endpoint) -> None:
    """More datagrams in one piece than are handled at a time all come, in their order, empty ones left out."""
    agent = endpoint.mux.new_agent()
    hundred = [_DTLS + bytes([number]) for number in range(100)]
    async with connected(endpoint) as line:
        line.send(framed(bytes(check(agent))) + b"".join(framed(one) + framed(b"") for one in hundred))
        await line.datagram()
        async with asyncio.timeout(WITHIN_S):
            assert [await agent.dtls.get() for _ in hundred] == hundred


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "tcp_framing", id="HTTP"),
        pytest.param(framed(_DTLS), "tcp_framing", id="DTLS before a check"),
        pytest.param(struct.pack("!H", 1501), "tcp_framing", id="a long one"),
        pytest.param(framed(b""), "tcp_framing", id="an empty one first"),
    ],
)
async def test_what_is_no_check_closes_the_connection(endpoint: Endpoint, sent: bytes, reason: str) -> None:
    """Whoever does not begin with STUN, in frames of a datagram's size, is not listened to."""
    async with connected(endpoint) as line:
        line.send(sent)
        assert await line.is_closed()
    assert endpoint.mux.drops == {reason: 1}


async def test_a_stranger_does_not_stay() -> None:
    """A connection whose checks nobody knows is closed when the time to connect is over."""
    async with Endpoint(LOOPBACK, 0, tcp_port=0, connect_timeout_s=scaled(0.2)) as endpoint:
        agent = endpoint.mux.new_agent()
        async with connected(endpoint) as line:
            line.send(framed(bytes(check(agent, pwd="wrong" * 5))))
            assert await line.is_closed()
        assert endpoint.mux.drops == {"unauthenticated_stun": 1, "tcp_no_check": 1}


async def test_few_strangers_of_a_host(endpoint: Endpoint) -> None:
    """One host has a few connections without a check; one that has shown a check does not count among them."""
    agent = endpoint.mux.new_agent()
    lines: list[Line] = []
    try:
        while len(lines) < MAX_STRANGERS_OF_A_HOST:
            lines.append(Line(*await asyncio.open_connection(LOOPBACK, endpoint.tcp_port)))
        async with connected(endpoint) as refused:
            assert await refused.is_closed()
        assert endpoint.mux.drops == {"tcp_too_many": 1}
        lines[0].send(framed(bytes(check(agent))))
        await lines[0].datagram()
        async with connected(endpoint) as welcome:
            welcome.send(framed(bytes(check(agent))))
            assert (await welcome.datagram())[:2] == b"\x01\x01"
    finally:
        for line in lines:
            await line.close()


async def test_one_source_at_two_local_addresses() -> None:
    """A second connection from a peer's address and port is refused; the first goes on, and no place stays taken."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((LOOPBACK, 0))
        other.bind(one.getsockname())
        async with Endpoint("0.0.0.0", 0, tcp_port=0) as endpoint, AsyncExitStack() as opened:
            agent = endpoint.mux.new_agent()
            loop = asyncio.get_running_loop()
            await loop.sock_connect(one, (LOOPBACK, endpoint.tcp_port))
            first = Line(*await asyncio.open_connection(sock=one))
            opened.push_async_callback(first.close)
            first.send(framed(bytes(check(agent))))
            await first.datagram()
            await loop.sock_connect(other, ("127.0.0.2", endpoint.tcp_port))
            second = Line(*await asyncio.open_connection(sock=other))
            opened.push_async_callback(second.close)
            second.send(framed(bytes(check(agent))))
            assert await second.is_closed()
            assert endpoint.mux.drops == {"tcp_twice": 1}
            agent.send_datagram(_DTLS)
            assert await first.datagram() == _DTLS
            await second.close()
            await first.close()
            async with asyncio.timeout(WITHIN_S):
                while agent.addresses:  # noqa: ASYNC110 (there is no event for it)
                    await asyncio.sleep(0)
            assert not endpoint.tcp._strangers


async def test_a_peer_that_does_not_read(endpoint: Endpoint) -> None:
    """What it is sent is lost from a point on, and nothing piles up."""
    agent = endpoint.mux.new_agent()
    async with connected(endpoint) as line:
        line.send(framed(bytes(check(agent))))
        await line.datagram()
        for _ in range(20_000):
            agent.send_datagram(bytes(1200))
        assert endpoint.mux.drops["tcp_slow"] > 1000


async def test_a_connection_that_ends(endpoint: Endpoint) -> None:
    """The agent sends nowhere until the next check, which may come from anywhere."""
    agent = endpoint.mux.new_agent()
    async with connected(endpoint) as line:
        line.send(framed(bytes(check(agent))))
        await line.datagram()
    async with asyncio.timeout(WITHIN_S):
        while agent.addresses:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0)
    agent.send_datagram(b"into the void")
    async with connected(endpoint) as line:
        line.send(framed(bytes(check(agent))))
        await line.datagram()
        agent.send_datagram(_DTLS)
        assert await line.datagram() == _DTLS


class Framer(asyncio.DatagramProtocol):
    """What a peer sends to its UDP port goes to the endpoint over TCP, and back: a peer that has TCP alone."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._caller: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._caller = addr
        self._line.send(framed(data))

    async def bring_back(self) -> None:
        """Until the connection ends."""
        while True:
            (length,) = struct.unpack("!H", await self._line._reader.readexactly(2))
            self.transport.sendto(await self._line._reader.readexactly(length), self._caller)  # type: ignore[attr-defined]


async def test_a_call(endpoint: Endpoint, place_call: Placing) -> None:
    """ICE, DTLS, sound and events of a call go over TCP, both ways; its end is told, and closes the connection."""
    caller: Caller = await place_call(endpoint, is_connected=False)
    async with connected(endpoint) as line:
        loop = asyncio.get_running_loop()
        transport, framer = await loop.create_datagram_endpoint(lambda: Framer(line), local_addr=(LOOPBACK, 0))
        bringing = asyncio.create_task(framer.bring_back())
        try:
            await caller.connect(
                patch_answer=lambda answer: answer.replace(f" {endpoint.port} typ", f" {framer.port} typ")
            )
            assert isinstance(caller.peer.ice, IceLite)
            assert caller.peer.ice.address is not None
            assert caller.peer.ice.address[-1] == "tcp"
            await caller.works()
            assert caller.faults.total() == 0
            caller.peer.hang_up("enough")
            assert await caller.owner.until_ended() == "enough"
            with pytest.raises(asyncio.IncompleteReadError):
                async with asyncio.timeout(WITHIN_S):
                    await bringing
        finally:
            bringing.cancel()
            transport.close()


async def test_its_candidates(endpoint: Endpoint, place_call: Placing) -> None:
    """The answer names the port as a passive candidate (RFC 6544 section 4.5), behind those of UDP."""
    caller = await place_call(endpoint, is_connected=False)
    words = [line.split() for line in parse_remote((await caller.offer_alone()).encode()).candidates]
    assert [(line[2], line[5], line[8:]) for line in words] == [
        ("udp", str(endpoint.port), []),
        ("tcp", str(endpoint.tcp_port), ["tcptype", "passive"]),
    ]
    assert int(words[0][3]) > int(words[1][3])
    assert words[0][0] != words[1][0]


async def test_a_port_in_use() -> None:
    """Says which setting cannot be had."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        with pytest.raises(ConfigError, match="ice_tcp_port: cannot listen on TCP"):
            async with Endpoint(LOOPBACK, 0, tcp_port=taken.getsockname()[1]):
                pass
