"""A light load generator: many real WebRTC peers and WebSocket clients in one process, from one clock.

Each peer is real where it matters to a server (an ICE check, a DTLS handshake, SRTP and a data channel of its own) and
cheap from then on: speech is encoded once for all, packets leave in 2 ms slots of one 20 ms clock, and what comes back
is counted and thrown away. WebSocket clients look at the headers of frames and count them.
"""

import asyncio
import os
import random
import secrets
import socket
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from aioice import stun
from aiortc import RTCCertificate

from benchmarks.kit.sound import opus_speech
from bridge.media.opus import FRAME_MS
from bridge.media.rtcp import ReportBlock, write_report
from bridge.media.rtp import parse_rtp
from bridge.webrtc.channel import CHANNEL_LABEL
from bridge.webrtc.dtls import SecureTransport
from bridge.webrtc.ice import IceAgent, IceRole, PacketKind
from bridge.webrtc.sdp import CNAME, DtlsRole, OfferParameters, SetupRole, parse_remote, write_offer

__all__ = ["Clock", "FrameCounter", "LoadPeer", "Weather", "client_frame"]

_TICK_S, _SLOTS = FRAME_MS / 1000, 10
_FRAME_TICKS = 960
_CHECK_AGAIN_S = 0.25
_CONSENT_S, _REPORT_S = 4.0, 1.0
_HEADER = struct.Struct(">BBHLL")

Signal = Callable[[str], Awaitable[bytes]]
Tick = Callable[[int], None]
KeepAlive = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to packets; jitter of more than a frame reorders them."""

    loss_percent: float = 0.0
    jitter_ms: float = 0.0
    seed: int = 1

    @property
    def is_fair(self) -> bool:
        """Whether all packets arrive, in their order."""
        return not self.loss_percent and not self.jitter_ms


class LoadPeer(IceAgent, asyncio.DatagramProtocol):
    """A caller with a UDP socket of its own: ``connect``, then ``send_frame`` every 20 ms."""

    role: ClassVar[IceRole] = IceRole.CONTROLLING

    def __init__(self, certificate: RTCCertificate, number: int, weather: Weather) -> None:
        super().__init__()
        self.sent = 0
        self.received = 0
        """RTP packets that came."""
        self.decrypts = False
        """Whether it decrypts them from the first one on, which ``next_payloads`` needs."""
        self._on_packet: Callable[[bytes], None] | None = None
        self.faults: list[str] = []
        self._secure = SecureTransport(
            self,
            certificate,
            faults=Counter(),
            on_channel=lambda channel: None,
            on_closed=lambda: self.faults.append("closed"),
            on_abuse=self.faults.append,
            on_life=lambda: None,
        )
        self._ufrag, self._pwd = secrets.token_hex(4), secrets.token_hex(12)
        self._weather = weather
        self._random = random.Random(f"{weather.seed} {number}")
        self._payloads = opus_speech()
        self._frame = 37 * number  # nobody says the same at the same time
        self._sequence, self._timestamp = self._random.randrange(30_000), self._random.randrange(1 << 31)
        self._ssrc = secrets.randbits(32)
        self._check_at = self._report_at = 0.0
        self._last_heard = b""
        self._unprotect: Callable[[bytes], bytes] | None = None

    async def connect(self, host: str, signal: Signal) -> None:
        """Offers by ``signal``, then checks, handshakes and opens the data channel."""
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self._transport, _ = await self._loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        candidate = f"1 1 udp 2130706431 {host} {self._socket.getsockname()[1]} typ host"
        fingerprint = self._secure.fingerprint
        ours = OfferParameters(self._ufrag, self._pwd, fingerprint, candidates=(candidate,), ssrc=self._ssrc)
        answer = parse_remote(await signal(write_offer(ours)))
        words = next(line.split() for line in answer.candidates if line.split()[2].lower() == "udp")
        self._remote = words[4], int(words[5])
        self._remote_ufrag, self._remote_pwd = answer.ice_ufrag, answer.ice_pwd
        async with asyncio.timeout(20):
            while not self.connected.is_set():
                self.check()
                try:
                    await asyncio.wait_for(self.connected.wait(), _CHECK_AGAIN_S)
                except TimeoutError:
                    continue
            role = DtlsRole.SERVER if answer.setup is SetupRole.ACTIVE else DtlsRole.CLIENT
            await self._secure.start(answer, role=role, open_channel=CHANNEL_LABEL)
        keys = self._secure.srtp_keys()
        self._protect, self._protect_rtcp, self._unprotect = keys.protect, keys.protect_rtcp, keys.unprotect
        self._payload_type = answer.opus_payload_type

    def check(self) -> None:
        """Asks whether the other side is there, and may be sent to."""
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._remote_ufrag}:{self._ufrag}"
        request.attributes["PRIORITY"] = 1_845_501_695
        request.attributes["ICE-CONTROLLING"] = 1 << 62
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._remote_pwd.encode())
        request.add_fingerprint()
        self._check_at = self._loop.time()
        self.send_datagram(bytes(request))

    def send_frame(self, number: int) -> None:
        """The 20 ms of speech with this number; where some are left out, the microphone was off."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        timestamp = (self._timestamp + number * _FRAME_TICKS) & 0xFFFFFFFF
        self._frame += 1
        payload = self._payloads[self._frame % len(self._payloads)]
        header = _HEADER.pack(0x80, self._payload_type, self._sequence, timestamp, self._ssrc)
        packet = self._protect(header + payload)
        self.sent += 1
        weather = self._weather
        if weather.loss_percent and self._random.random() * 100 < weather.loss_percent:
            return
        if weather.jitter_ms:
            self._loop.call_later(self._random.random() * weather.jitter_ms / 1000, self.send_datagram, packet)
        else:
            self.send_datagram(packet)

    def send_rtp(self, payload: bytes, *, sequence: int, rtp_timestamp: int, payload_type: int | None = None) -> bytes:
        """Sends a packet of sound, whatever the weather; returns it as it was before its encryption.

        ``payload_type`` is that of Opus if it is None.
        """
        kind = self._payload_type if payload_type is None else payload_type
        packet = _HEADER.pack(0x80, kind, sequence & 0xFFFF, rtp_timestamp & 0xFFFFFFFF, self._ssrc) + payload
        self.send_datagram(self._protect(packet))
        return packet

    def keep_alive(self, now: float) -> None:
        """Consent and receiver reports, every few seconds."""
        if now - self._check_at >= _CONSENT_S:
            self.check()
        if self._last_heard and now - self._report_at >= _REPORT_S:
            self._report_at = now
            sequence, ssrc = (int.from_bytes(self._last_heard[at:end], "big") for at, end in ((2, 4), (8, 12)))
            block = ReportBlock(ssrc, 0, 0, sequence, 0, 0, 0)
            self.send_datagram(self._protect_rtcp(write_report(self._ssrc, CNAME, sender=None, block=block)))

    def send_datagram(self, datagram: bytes) -> None:
        """Or loses it."""
        try:
            self._socket.sendto(datagram, self._remote)
        except OSError as error:
            self.faults.append(str(error))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Counts sound; the rest is set-up."""
        first = data[0]
        if first > 127:
            if not 192 <= data[1] <= 223:
                self.received += 1
                self._last_heard = data
                if self.decrypts and self._unprotect is not None:
                    packet = self._unprotect(data)
                    if self._on_packet is not None:
                        self._on_packet(packet)
        elif first > 19:
            self.hand_over(PacketKind.DTLS, data, 0.0)
        else:
            message = stun.parse_message(data)
            if message.message_class == stun.Class.RESPONSE:
                self.connected.set()
            elif message.message_class == stun.Class.REQUEST:
                answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, message.transaction_id)
                answer.attributes["XOR-MAPPED-ADDRESS"] = addr
                answer.add_message_integrity(self._pwd.encode())
                answer.add_fingerprint()
                self._socket.sendto(bytes(answer), addr)

    async def next_payloads(self, count: int) -> list[bytes]:
        """The next Opus packets in their order, which may take twice as long as so many frames of sound last."""
        packets: list[tuple[int, bytes]] = []
        full: asyncio.Future[None] = self._loop.create_future()

        def take(packet: bytes) -> None:
            header = parse_rtp(packet)
            if header is not None and not full.done():
                _, _, rtp_timestamp, _, start, end = header
                packets.append((rtp_timestamp, packet[start:end]))
                if len(packets) == count:
                    full.set_result(None)

        self._on_packet = take
        try:
            await asyncio.wait_for(full, 2 * count * _TICK_S)
        finally:
            self._on_packet = None
        return [payload for _, payload in sorted(packets)]

    async def aclose(self) -> None:
        """Hangs up."""
        try:
            async with asyncio.timeout(2):
                await self._secure.aclose()
        except TimeoutError:
            self.faults.append("close deadline")
        self.close()
        self._transport.close()


class Clock:
    """One timer for all: each peer, and whatever else has to happen every 20 ms, in one of ten slots."""

    def __init__(self) -> None:
        self.is_speaking = False
        self.late_s = 0.0
        """The most that it was late by."""
        self._slots: list[list[tuple[Callable[[int], None], Callable[[float], None] | None]]] = [
            [] for _ in range(_SLOTS)
        ]
        self._turns = 0

    def add(self, tick: Tick, keep_alive: KeepAlive | None = None) -> None:
        """``tick`` is told the number of the frame while ``is_speaking``, ``keep_alive`` the time, always."""
        min(self._slots, key=len).append((tick, keep_alive))

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += _TICK_S / _SLOTS
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            self.late_s = max(self.late_s, now - due)
            self._turns += 1
            for tick, keep_alive in tuple(self._slots[self._turns % _SLOTS]):
                if self.is_speaking:
                    tick(self._turns // _SLOTS)
                if keep_alive is not None:
                    keep_alive(now)


class FrameCounter(asyncio.Protocol):
    """A WebSocket client that counts large text frames, answers pings, and hands out texts only while asked to."""

    def __init__(self, host: str, path: str, key: str = "") -> None:
        self.events = 0
        """Of at least 500 bytes: sound."""
        self.on_text: Callable[[bytes], None] | None = None
        self.opened = asyncio.Event()
        self.is_lost = False
        self._host, self._path, self._key = host, path, key
        self._rest = b""
        self._skip = 0

    @classmethod
    async def open(cls, host: str, port: int, path: str, *, key: str = "") -> "FrameCounter":
        """Connected and upgraded, with an API key if there is one."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(f"{host}:{port}", path, key), host, port)
        await asyncio.wait_for(client.opened.wait(), 20)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        key = b64encode(os.urandom(16)).decode()
        lines = [f"GET {self._path} HTTP/1.1", f"Host: {self._host}", "Connection: Upgrade", "Upgrade: websocket",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
                 *([f"Authorization: Bearer {self._key}"] if self._key else []), "", ""]  # fmt: skip
        self.transport.write("\r\n".join(lines).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """The server left."""
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        """Any part of any number of frames."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = self._skip, len(data)
        self._skip = 0
        if not self.opened.is_set():
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._rest = data
                return
            if b" 101 " not in data[:20]:
                raise RuntimeError(f"no upgrade: {data[:200]!r}")
            self.opened.set()
            at = head + 4
        while at < end:
            first, second = data[at], data[at + 1] if at + 1 < end else 0
            start = at + (2 if second < 126 else 4 if second == 126 else 10)
            length = second if second < 126 else int.from_bytes(data[at + 2 : start], "big")
            is_wanted = second < 126 or self.on_text is not None
            if start > end or at + 1 >= end or (is_wanted and start + length > end):
                self._rest = data[at:]
                return
            at = start + length
            if first & 15 == 9:
                self.transport.write(client_frame(data[start:at], opcode=10))
            elif first & 15 == 1:
                self.events += length >= 500
                if self.on_text is not None:
                    self.on_text(data[start:at])
        self._skip = at - end

    async def next_texts(self, count: int, part: bytes) -> list[bytes]:
        """The next messages with ``part`` in them, which may take twice as long as so many frames of sound last."""
        texts: list[bytes] = []
        full: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(text: bytes) -> None:
            if part in text and not full.done():
                texts.append(text)
                if len(texts) == count:
                    full.set_result(None)

        self.on_text = take
        try:
            await asyncio.wait_for(full, 2 * count * _TICK_S)
        finally:
            self.on_text = None
        return texts

    async def next_text(self, wants: Callable[[bytes], bool] = lambda text: True) -> bytes:
        """The next message that is wanted."""
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(text: bytes) -> None:
            if not found.done() and wants(text):
                found.set_result(text)

        self.on_text = take
        try:
            return await asyncio.wait_for(found, 20)
        finally:
            self.on_text = None


def client_frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """One frame of a client; its mask is zero, which is one as good as any other."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload
