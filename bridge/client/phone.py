"""A telephone call to the bridge, as a carrier brings it: for trying the endpoints without an account, and for tests.

``dial`` connects a carrier; ``Phone`` is what the caller holds: 20 ms of sound go in and come out at each ``tick``.
"""

import asyncio
import secrets
import socket
import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4
from xml.etree import ElementTree

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bridge.client.address import DEFAULT_URL, CallFailed, explain, parse_address, post_form
from bridge.client.asterisk import AsteriskCarrier, AudioSocketCarrier
from bridge.client.carriers import SimulatedCarrier, TelnyxCarrier, TwilioCarrier
from bridge.telephony.asterisk.dialect import FORMATS, SUBPROTOCOL
from bridge.telephony.audiosocket.dialect import Splitter
from bridge.telephony.telnyx.dialect import ANSWER_CODEC, ANSWER_RATE, AUTH_TOKEN_HEADER
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, sign
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

__all__ = ["CARRIERS", "CarrierName", "Dialling", "Phone", "SocketWire", "Wire", "connect_carrier", "dial"]

CarrierName = Literal["twilio", "telnyx", "asterisk", "audiosocket"]
CARRIERS: tuple[CarrierName, ...] = get_args(CarrierName)

_TIMEOUT_S = 10.0
_DEFAULT_AUDIOSOCKET_PORT = 9092
_TELNYX_CODECS = {"PCMU": G711_ULAW, "PCMA": G711_ALAW, "L16": pcm16_at(16000)}
_SLIN = {name: audio_format for name, audio_format in FORMATS.items() if name.startswith("slin")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """Which endpoint, and what opens it."""

    carrier: CarrierName
    url: str = DEFAULT_URL
    """Of the bridge; ``host:port`` for AudioSocket."""
    secret: str = field(default="", repr=False)
    """The setting that opens the endpoint: auth token, secret, password or UUID."""
    public_url: str | None = None
    """What the bridge calls itself to Twilio; unset: ``url``."""
    call: str | None = None
    """The carrier's id of the call; unset: a new one."""
    codec: str | None = None
    """In the carrier's own words, such as PCMA, L16, slin16; unset: its usual one."""
    answer_codec: str | None = None
    """Telnyx alone has another one for the answer; unset: PCMU, as there."""
    parameters: Mapping[str, str] = field(default_factory=dict)


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
        _reset(self.connection.transport)


class _TcpWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter()
        self._frames: list[bytes] = []

    async def send(self, messages: list[str | bytes]) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(message for message in messages if isinstance(message, bytes)))

    async def receive(self) -> bytes | None:
        try:
            while not self._frames:
                data = await self._reader.read(65_536)
                if not data:
                    return None
                self._frames = self._splitter.push(data)
        except ConnectionError:
            return None
        return self._frames.pop(0)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def cut(self) -> None:
        _reset(self._writer.transport)


def _reset(transport: asyncio.WriteTransport) -> None:
    """Ends a TCP connection as one that is broken, not as one that is closed."""
    connection = transport.get_extra_info("socket")
    if connection is None:  # the other side was faster
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Phone:
    """A call that is up. ``read`` runs beside it and ends with it."""

    def __init__(self, carrier: SimulatedCarrier, wire: Wire) -> None:
        self.carrier = carrier
        self.wire = wire
        self.messages = 0
        """That came from the bridge."""
        self.ended = asyncio.Event()
        """The bridge hung up, or the line is down."""
        self.on_message: Callable[[str | bytes], None] | None = None

    async def read(self) -> None:
        """Takes what the bridge says, and answers it."""
        while (message := await self.wire.receive()) is not None:
            self.messages += 1
            if self.on_message is not None:
                self.on_message(message)
            await self.wire.send(self.carrier.receive(message))
            if self.carrier.has_hung_up:
                break
        self.ended.set()
        await self.wire.close()

    async def tick(self, sound: bytes) -> bytes:
        """20 ms pass: ``sound`` is what the caller says, in the carrier's format; returns what the caller hears."""
        heard, said = self.carrier.play()
        await self.wire.send([*self.carrier.speak(sound), *said])
        return heard

    async def press(self, key: str) -> None:
        """The caller presses a key."""
        await self.wire.send(self.carrier.press(key))

    async def hang_up(self) -> None:
        """The caller hangs up."""
        await self.wire.send(self.carrier.hang_up())
        await self.wire.close()


@asynccontextmanager
async def dial(dialling: Dialling) -> AsyncIterator[Phone]:
    """A call, up and hung up at the end of the block; raises ``CallFailed``."""
    carrier, wire = await connect_carrier(dialling)
    phone = Phone(carrier, wire)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(phone.read())
        try:
            await wire.send(carrier.start())
            yield phone
        finally:
            await phone.hang_up()
            await reading


async def connect_carrier(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """A connection on which nothing has been said yet; raises ``CallFailed``."""
    return await _CONNECT[dialling.carrier](dialling)


async def _twilio(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    """First the webhook of an incoming call, then the stream that it is answered with."""
    call_sid = dialling.call or f"CA{secrets.token_hex(16)}"
    webhook, endpoint = parse_address(dialling.url).carrier("twilio")
    public = (dialling.public_url or webhook.removesuffix("/v1/telephony/twilio")).rstrip("/")
    form = {"CallSid": call_sid, "From": "+15550001111", "To": "+15550002222"}
    signature = sign(dialling.secret, f"{public}/v1/telephony/twilio", form)
    answer = await asyncio.to_thread(
        post_form, webhook, form, headers={SIGNATURE_HEADER: signature}, timeout_s=_TIMEOUT_S
    )
    try:
        stream = ElementTree.fromstring(answer).find("./Connect/Stream")
    except ElementTree.ParseError:
        stream = None
    if stream is None:
        raise CallFailed("The webhook answered with something else than TwiML that connects a stream.")
    given = {str(entry.get("name")): str(entry.get("value")) for entry in stream.iter("Parameter")}
    signature = sign(dialling.secret, str(stream.get("url")))
    wire = await _open_socket(endpoint, headers={SIGNATURE_HEADER: signature})
    parameters = {**given, **dialling.parameters}
    return TwilioCarrier(call_sid, f"MZ{secrets.token_hex(16)}", parameters), wire


async def _telnyx(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    endpoint = parse_address(dialling.url).carrier("telnyx")[1]
    answer_codec, answer_format = _choice(_TELNYX_CODECS, dialling.answer_codec)
    if dialling.answer_codec is not None:
        endpoint += f"?{urlencode({ANSWER_CODEC: answer_codec, ANSWER_RATE: answer_format.rate_hz})}"
    wire = await _open_socket(endpoint, headers={AUTH_TOKEN_HEADER: dialling.secret} if dialling.secret else {})
    call = dialling.call or f"v3:{secrets.token_hex(16)}"
    encoding, audio_format = _choice(_TELNYX_CODECS, dialling.codec)
    parameters = dict(dialling.parameters)
    carrier = TelnyxCarrier(
        call, str(uuid4()), parameters, encoding=encoding, audio_format=audio_format, answer_format=answer_format
    )
    return carrier, wire


async def _asterisk(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    endpoint = parse_address(dialling.url).carrier("asterisk")[1]
    credentials = b64encode(f"asterisk:{dialling.secret}".encode()).decode()
    wire = await _open_socket(endpoint, headers={"Authorization": f"Basic {credentials}"}, subprotocol=SUBPROTOCOL)
    call = dialling.call or f"pbx-{secrets.token_hex(4)}.{secrets.randbelow(1000)}"
    codec, _ = _choice(FORMATS, dialling.codec)
    return AsteriskCarrier(call, codec=codec, is_json=True, variables=dict(dialling.parameters)), wire


async def _audiosocket(dialling: Dialling) -> tuple[SimulatedCarrier, Wire]:
    where = urlsplit(dialling.url if "://" in dialling.url else f"tcp://{dialling.url}")
    try:
        uuid = UUID(dialling.secret)
        host, port = where.hostname or "127.0.0.1", where.port or _DEFAULT_AUDIOSOCKET_PORT
    except ValueError:
        raise CallFailed("AudioSocket needs host:port, and by --secret a UUID that the bridge knows.") from None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise explain(error, f"tcp://{host}:{port}") from None
    _, audio_format = _choice(_SLIN, dialling.codec)
    return AudioSocketCarrier(uuid, audio_format), _TcpWire(reader, writer)


_CONNECT = {"twilio": _twilio, "telnyx": _telnyx, "asterisk": _asterisk, "audiosocket": _audiosocket}


def _choice(known: Mapping[str, AudioFormat], codec: str | None) -> tuple[str, AudioFormat]:
    """The codec by its name, or the first of them."""
    name = codec or next(iter(known))
    if name not in known:
        raise CallFailed(f"This carrier has no codec {name}; it is one of {', '.join(known)}.")
    return name, known[name]


async def _open_socket(url: str, *, headers: Mapping[str, str], subprotocol: str | None = None) -> SocketWire:
    try:
        return SocketWire(
            await connect(
                url,
                additional_headers=dict(headers),
                subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                compression=None,
                ping_interval=None,
                open_timeout=_TIMEOUT_S,
                close_timeout=2.0,
                proxy=None,
            )
        )
    except Exception as error:
        raise explain(error, url) from None
