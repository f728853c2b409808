"""How a simulated carrier reaches the bridge: the endpoint that it calls, the secret that opens it, and the wire."""

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
    """Which endpoint a simulated carrier calls, and what opens it."""

    carrier: str
    url: str = DEFAULT_URL
    """The URL of the bridge; ``host:port`` for AudioSocket."""
    secret: str = field(default="", repr=False)
    """The value of the setting that opens the endpoint (auth token, secret, password or UUID), or a telephone's key."""
    public_url: str | None = None
    """The bridge's own URL for carriers that sign; None stands for ``url``."""
    call: str | None = None
    """The carrier's id of the call; None stands for a new one."""
    codec: str | None = None
    """The codec in the carrier's own words, such as PCMA, L16, slin16; None stands for its usual one."""
    answer_codec: str | None = None
    """The codec of the answer, if the carrier may have another one for it; None stands for its usual one."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def public(self) -> str:
        """The beginning of the address in a signature, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        return self.http.removesuffix(f"/v1/telephony/{self.endpoint_name}")

    @property
    def endpoint_name(self) -> str:
        """The bridge's name for the carrier in the path of the endpoint."""
        return _ENDPOINTS.get(self.carrier, self.carrier)

    @property
    def http(self) -> str:
        """The URL of the endpoint for HTTP."""
        return parse_address(self.url).carrier(self.endpoint_name)[0]

    @property
    def socket(self) -> str:
        """The URL of the endpoint for WebSockets."""
        return parse_address(self.url).carrier(self.endpoint_name)[1]


_ENDPOINTS = {"signalwire": "twilio", "sipgate": "twilio"}
"""The carriers that call an endpoint of another name."""


class Wire(Protocol):
    """The connection that carries a carrier's messages."""

    async def send_messages(self, messages: list[str | bytes]) -> None:
        """Sends the messages. If the wire is down, it does nothing."""
        ...

    async def receive_message(self) -> str | bytes | None:
        """Returns the next message; None if the wire is down."""
        ...

    async def close(self) -> None:
        """Hangs up."""
        ...

    def cut(self) -> None:
        """Breaks the connection without a word, as a network does."""
        ...


Connect = Callable[[Dialling], Awaitable[tuple[SimulatedCarrier, Wire]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """One row of the table of simulated carriers."""

    name: str
    variable: str
    """The daemon's environment variable whose value opens the endpoint; empty if only a telephone's key opens it."""
    connect: Connect
    """Opens a connection on which nothing has been said yet; raises ``CallFailed``."""


class SocketWire:
    """A WebSocket that carries a carrier's messages."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send_messages(self, messages: list[str | bytes]) -> None:
        """Sends each message as a WebSocket message."""
        with suppress(ConnectionClosed):
            for message in messages:
                await self.connection.send(message)

    async def receive_message(self) -> str | bytes | None:
        """Returns the next message; None if the socket is closed."""
        try:
            return await self.connection.recv()
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        """Closes the socket with code 1000."""
        await self.connection.close()

    def cut(self) -> None:
        """Resets the connection, without a close frame."""
        reset(self.connection.transport)


def reset(transport: asyncio.WriteTransport) -> None:
    """Ends a TCP connection as a broken one, and not as a closed one."""
    connection = transport.get_extra_info("socket")
    if connection is None:  # the other side has closed it already
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def open_socket(url: str, *, headers: Mapping[str, str], subprotocol: str | None = None) -> SocketWire:
    """Opens a WebSocket to the bridge; raises ``CallFailed``."""
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
    """Posts a form to a webhook, and returns the answer; raises ``CallFailed``."""
    return await asyncio.to_thread(post_form, url, form, headers=headers, timeout_s=TIMEOUT_S)


async def post_json(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Posts JSON to a webhook, and returns the answer; raises ``CallFailed``."""
    headers = {"Content-Type": "application/json", **headers}
    return await asyncio.to_thread(post_body, url, body, headers=headers, timeout_s=TIMEOUT_S)


async def get_json(url: str, headers: Mapping[str, str]) -> bytes:
    """Asks a webhook by GET, and returns the answer; raises ``CallFailed``."""
    return await asyncio.to_thread(post_body, url, None, headers=headers, timeout_s=TIMEOUT_S)


def basic(user: str, password: str) -> dict[str, str]:
    """Returns the header of HTTP Basic authentication (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def choose(known: Mapping[str, AudioFormat], codec: str | None) -> tuple[str, AudioFormat]:
    """Returns the codec of this name, or the first one if there is no name; raises ``CallFailed``."""
    name = codec or next(iter(known))
    if name not in known:
        raise CallFailed(f"This carrier has no codec {name}; choose one of {', '.join(known)}.")
    return name, known[name]
