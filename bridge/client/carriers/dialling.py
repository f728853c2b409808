"""How a simulated carrier reaches the bridge: which endpoint it calls, what opens it, and the wire that it talks on."""

import asyncio
import socket
import struct
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bridge.client.address import DEFAULT_URL, CallFailed, explain, parse_address, post_body, post_form
from bridge.client.carriers.contract import SimulatedCarrier
from bridge.wire.audio import AudioFormat

__all__ = [
    "TIMEOUT_S",
    "Connect",
    "Dialling",
    "Simulator",
    "SocketWire",
    "Wire",
    "basic",
    "choose",
    "get_json",
    "open_socket",
    "post_json",
    "post_webhook",
    "reset",
]

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """Which endpoint, and what opens it."""

    carrier: str
    url: str = DEFAULT_URL
    """Of the bridge; ``host:port`` for AudioSocket."""
    secret: str = field(default="", repr=False)
    """The setting that opens the endpoint: auth token, secret, password or UUID; or a telephone's key."""
    public_url: str | None = None
    """What the bridge calls itself to carriers that sign; unset: ``url``."""
    call: str | None = None
    """The carrier's id of the call; unset: a new one."""
    codec: str | None = None
    """In the carrier's own words, such as PCMA, L16, slin16; unset: its usual one."""
    answer_codec: str | None = None
    """Some have another one for the answer; unset: their usual one."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def public(self) -> str:
        """What a signature's address begins with, without a slash behind it."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        return self.http.removesuffix(f"/v1/telephony/{self.endpoint_name}")

    @property
    def endpoint_name(self) -> str:
        """Of the carrier as the bridge knows it."""
        return _ENDPOINTS.get(self.carrier, self.carrier)

    @property
    def http(self) -> str:
        """The endpoint by HTTP."""
        return parse_address(self.url).carrier(self.endpoint_name)[0]

    @property
    def socket(self) -> str:
        """The endpoint by WebSocket."""
        return parse_address(self.url).carrier(self.endpoint_name)[1]


_ENDPOINTS = {"signalwire": "twilio", "sipgate": "twilio"}
"""Carriers that call an endpoint of another name."""


class Wire(Protocol):
    """What carries a carrier's messages."""

    async def send(self, messages: list[str | bytes]) -> None:
        """Sends them; on a wire that is down, nothing."""
        ...

    async def receive(self) -> str | bytes | None:
        """The next one; None when the wire is down."""
        ...

    async def close(self) -> None:
        """Hangs up."""
        ...

    def cut(self) -> None:
        """Without a word, as a network does."""
        ...


Connect = Callable[[Dialling], Awaitable[tuple[SimulatedCarrier, Wire]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """One row of the table of simulated carriers."""

    name: str
    variable: str
    """The daemon's environment variable whose value opens the endpoint; empty: only a telephone's key does."""
    connect: Connect
    """A connection on which nothing has been said yet; raises ``CallFailed``."""


class SocketWire:
    """A WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, messages: list[str | bytes]) -> None:
        """One WebSocket message each."""
        with suppress(ConnectionClosed):
            for message in messages:
                await self.connection.send(message)

    async def receive(self) -> str | bytes | None:
        """The next one; None when the socket is closed."""
        try:
            return await self.connection.recv()
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        """With code 1000."""
        await self.connection.close()

    def cut(self) -> None:
        """The connection is reset, without a close frame."""
        reset(self.connection.transport)


def reset(transport: asyncio.WriteTransport) -> None:
    """Ends a TCP connection as one that is broken, not as one that is closed."""
    connection = transport.get_extra_info("socket")
    if connection is None:  # the other side was faster
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def open_socket(url: str, *, headers: Mapping[str, str], subprotocol: str | None = None) -> SocketWire:
    """A WebSocket to the bridge; raises ``CallFailed``."""
    try:
        return SocketWire(
            await connect(
                url,
                additional_headers=dict(headers),
                subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                compression=None,
                ping_interval=None,
                open_timeout=TIMEOUT_S,
                close_timeout=2.0,
                proxy=None,
            )
        )
    except Exception as error:
        raise explain(error, url) from None


async def post_webhook(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
    """What a webhook answers to a form; raises ``CallFailed``."""
    return await asyncio.to_thread(post_form, url, form, headers=headers, timeout_s=TIMEOUT_S)


async def post_json(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """What a webhook answers to JSON; raises ``CallFailed``."""
    headers = {"Content-Type": "application/json", **headers}
    return await asyncio.to_thread(post_body, url, body, headers=headers, timeout_s=TIMEOUT_S)


async def get_json(url: str, headers: Mapping[str, str]) -> bytes:
    """What a webhook answers to GET; raises ``CallFailed``."""
    return await asyncio.to_thread(post_body, url, None, headers=headers, timeout_s=TIMEOUT_S)


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic authentication (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def choose(known: Mapping[str, AudioFormat], codec: str | None) -> tuple[str, AudioFormat]:
    """The codec by its name, or the first of them; raises ``CallFailed``."""
    name = codec or next(iter(known))
    if name not in known:
        raise CallFailed(f"This carrier has no codec {name}; it is one of {', '.join(known)}.")
    return name, known[name]
