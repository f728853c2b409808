"""Stock aiortc peers that call an endpoint, owners that record what they are told, and strangers beside them."""

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiortc import InvalidStateError, RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdtlstransport import RTCDtlsTransport
from google_crc32c import value as crc32c

from bridge.errors import BridgeError
from bridge.media.contracts import Sink
from bridge.media.opus import new_encoder
from bridge.media.playback import Played
from bridge.media.rtp import pack_rtp
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.ice import MediaHandler, PacketKind
from bridge.webrtc.peer import Peer
from bridge.webrtc.sdp import parse_offer
from bridge.wire.message import EncodedMessage
from tests.machine import scaled

__all__ = [
    "LONGEST_BLOCK_S",
    "LOOPBACK",
    "WITHIN_S",
    "Caller",
    "Calls",
    "LoopWatch",
    "NotedSound",
    "Patch",
    "Recorder",
    "Stranger",
    "data_chunk",
    "raw_chunk",
]

LOOPBACK = "127.0.0.1"
WITHIN_S = scaled(8)
LONGEST_BLOCK_S = scaled(0.1)
FRAME_SAMPLES = 480
SSRC = 0xCA11
OPUS = 96  # what aiortc offers

Patch = Callable[[str], str]


class Recorder:
    """A leg's owner that keeps what it is told, and raises in the handlers named in ``broken``."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.loud_samples = 0  # silence that the bridge fills in does not count as being heard
        self.texts: list[str] = []
        self.events: list[Played] = []
        self.sinks: list[Sink] = []
        self.is_connected = False
        self.ended: tuple[str, BridgeError | None] | None = None
        self.broken: set[str] = set()
        self._changed = asyncio.Event()

    def leg_connected(self) -> None:
        self.is_connected = True
        self._note("leg_connected")

    def receive_leg_audio(self, pcm: bytes) -> None:
        self.pcm += pcm
        self.loud_samples += int(np.count_nonzero(np.abs(np.frombuffer(pcm, "<i2").astype(int)) > 1000))
        self._note("receive_leg_audio")

    def channel_opened(self, sink: Sink) -> None:
        self.sinks.append(sink)
        self._note("channel_opened")

    def receive_leg_text(self, text: str) -> None:
        self.texts.append(text)
        self._note("receive_leg_text")

    def played(self, event: Played) -> None:
        self.events.append(event)
        self._note("played")

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        self.ended = (reason, error)
        self._note("leg_closed")

    async def until(self, holds: Callable[[], object]) -> None:
        """Waits until ``holds``, looking whenever something was recorded."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_ended(self) -> str:
        """The reason for which the call ended."""
        await self.until(lambda: self.ended)
        assert self.ended is not None
        return self.ended[0]

    def _note(self, name: str) -> None:
        self._changed.set()
        if name in self.broken:
            raise KeyError(name)


class Caller:
    """A stock aiortc peer with a call to the endpoint. Its sound is sent packet by packet, so that none is chance."""

    def __init__(self, endpoint: Endpoint, *, channel: tuple[str, dict[str, Any]] = ("oai-events", {})) -> None:
        label, options = channel
        self.endpoint = endpoint
        self.owner = Recorder()
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.pc.createDataChannel(label, **options)
        self.sender = self.pc.addTransceiver("audio", direction="sendrecv").sender
        self.ssrc = SSRC
        self.heard: list[str] = []
        self.peer: Peer
        self.sequence, self.rtp_timestamp = 100, 48_000
        self._heard_one = asyncio.Event()
        self._encoder = new_encoder(24_000)
        self._at = 0
        self.channel.on("message", self._hear)

    async def connect(self, patch: Patch = str, *, patch_answer: Patch = str) -> None:
        """Offers, with ``patch`` applied to the SDP, and connects."""
        await self.offer(patch, patch_answer=patch_answer)
        await self.owner.until(lambda: self.owner.sinks)
        await self.until_open()

    async def until_open(self, *channels: RTCDataChannel) -> None:
        """Waits until these channels are open, or the first one."""
        async with asyncio.timeout(WITHIN_S):
            for channel in channels or (self.channel,):
                opened = asyncio.Event()
                channel.on("open", opened.set)
                if channel.readyState != "open":
                    await opened.wait()

    async def offer(self, patch: Patch = str, *, patch_answer: Patch = str) -> None:
        """Offers, and takes the answer."""
        answer = patch_answer(await self.offer_alone(patch))
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def offer_alone(self, patch: Patch = str) -> str:
        """Offers, and does not come; the answer that was to bring it."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        offer = parse_offer(patch(self.pc.localDescription.sdp).encode())
        self.peer, answer = self.endpoint.accept(offer, self.owner)
        return answer

    @property
    def dtls(self) -> RTCDtlsTransport:
        """The one transport of the bundle."""
        return self.sender.transport

    # Sound

    def opus(self) -> bytes:
        """The next 20 ms of a 440 Hz tone."""
        tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(self._at, self._at + 480) / 24_000)
        self._at += 480
        return self._encoder.encode(tone.astype("<i2").tobytes())

    def rtp(self, payload: bytes, *, sequence: int | None = None, ssrc: int | None = None) -> bytes:
        """The next packet of the stream."""
        self.sequence += 1
        self.rtp_timestamp += 960
        return pack_rtp(
            payload,
            payload_type=OPUS,
            sequence=self.sequence if sequence is None else sequence,
            rtp_timestamp=self.rtp_timestamp,
            ssrc=self.ssrc if ssrc is None else ssrc,
        )

    async def send_rtp(self, packet: bytes) -> None:
        """Protects and sends one RTP or RTCP packet."""
        await self.dtls._send_rtp(packet)

    async def speak(self, frames: int = 5) -> None:
        """Sends a tone, and waits until the owner has heard it."""
        expected = self.owner.loud_samples + frames * FRAME_SAMPLES // 2
        for _ in range(frames):
            await self.send_rtp(self.rtp(self.opus()))
        await self.owner.until(lambda: self.owner.loud_samples >= expected)

    # SCTP

    @property
    def association(self) -> sctp.RTCSctpTransport:
        """The association that the data channel is in."""
        association = self.pc.sctp
        assert association is not None
        return association

    async def send_sctp(self, *chunks: bytes, tag: int | None = None) -> None:
        """Sends one SCTP packet with whatever chunks."""
        await self.dtls._send_data(sctp_packet(self.association, b"".join(chunks), tag=tag))

    async def send_message(self, data: bytes, *, protocol: int = sctp.WEBRTC_STRING, stream: int | None = None) -> None:
        """Sends a message past the checks of the data channel."""
        stream_id = self.channel.id if stream is None else stream
        assert stream_id is not None
        await self.association._send(stream_id, protocol, data)

    def pieces(self, count: int, data: bytes, *, step: int = 1) -> list[bytes]:
        """DATA chunks that begin a message and never end it; with ``step`` 2 every other TSN is left out."""
        association = self.association
        stream = self.channel.id or 0
        sequence = association._outbound_stream_seq.get(stream, 0)
        first = association._local_tsn
        association._local_tsn = (first + count * step) % 2**32
        return [
            data_chunk(
                (first + index * step + step - 1) % 2**32, data, stream=stream, sequence=sequence, flags=2 * (not index)
            )
            for index in range(count)
        ]

    # Is it alive?

    async def works(self, *, channel: RTCDataChannel | None = None) -> None:
        """Sound reaches the owner, and an event each way its end."""
        await self.speak()
        text = f"ping {len(self.owner.texts)}"
        if channel is not None and channel is not self.channel:
            channel.on("message", self._hear)
        (channel or self.channel).send(text)
        await self.owner.until(lambda: text in self.owner.texts)
        self.owner.sinks[-1].send_message(EncodedMessage(f"pong {text}".encode()))
        async with asyncio.timeout(WITHIN_S):
            while f"pong {text}" not in self.heard:
                await self.hear()

    async def hear(self) -> None:
        """Waits for the next event on the data channel."""
        self._heard_one.clear()
        await self._heard_one.wait()

    async def outcome(self) -> str:
        """``works``, or the reason for which the call has ended."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._tries())
            ending = tasks.create_task(self.owner.until_ended())
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if working.done() and working.result():
                ending.cancel()
                return "works"
            working.cancel()
            return await ending

    async def _tries(self) -> bool:
        try:
            await self.works()
        except (ConnectionError, InvalidStateError):
            return False
        return True

    @property
    def faults(self) -> Counter[str]:
        """What was counted for this call."""
        return self.peer.faults + Counter(malformed=self.peer.rtp.inbound.stats.malformed)

    def _hear(self, text: str) -> None:
        self.heard.append(text)
        self._heard_one.set()


class NotedSound:
    """Stands between an agent and its RTP session: notes the SRTP packets of sound, and passes everything on."""

    def __init__(self, media: MediaHandler) -> None:
        self.packets: list[bytes] = []
        self._media = media

    def receive_srtp(self, kind: PacketKind, datagram: bytes, now: float) -> bool:
        if kind is PacketKind.RTP:
            self.packets.append(datagram)
        return self._media.receive_srtp(kind, datagram, now)

    def decrypt(self, datagram: bytes, now: float) -> bytes | None:
        self.packets.append(datagram)
        return self._media.decrypt(datagram, now)

    def decode(self, packet: bytes, now: float) -> bytes:
        return self._media.decode(packet, now)

    def deliver(self, sound: bytes) -> None:
        self._media.deliver(sound)


class Stranger(asyncio.DatagramProtocol):
    """A UDP socket that sends whatever it likes, and keeps what it is answered."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.transport: Any = None
        self._got_one = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.received.append(data)
        self._got_one.set()

    def send(self, datagram: bytes) -> None:
        self.transport.sendto(datagram)

    async def answer(self) -> bytes:
        """The next datagram that comes."""
        async with asyncio.timeout(WITHIN_S):
            await self._got_one.wait()
        return self.received[-1]


class LoopWatch:
    """The longest time for which the event loop did nothing else; other processes' share of the machine left out."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._worked = time.thread_time()
        self._turn(self._loop.time())

    def reset(self) -> None:
        """What came before does not count."""
        self.longest_s = 0.0

    def stop(self) -> None:
        """No more is measured."""
        self._handle.cancel()

    def _turn(self, due: float) -> None:
        now, worked = self._loop.time(), time.thread_time()
        self.longest_s = max(self.longest_s, min(now - due, worked - self._worked))
        self._worked = worked
        self._handle = self._loop.call_at(now + 0.01, self._turn, now + 0.01)


@dataclass(frozen=True, slots=True)
class Calls:
    """One that is attacked, one beside it, and the watch on the loop that both are in."""

    victim: Caller
    witness: Caller
    watch: LoopWatch

    async def outcome(self) -> str:
        """What became of the victim; the witness has to be well."""
        outcome = await self.victim.outcome()
        await self.witness.works()
        assert self.witness.faults.total() == 0
        assert self.watch.longest_s < LONGEST_BLOCK_S
        return outcome


def raw_chunk(kind: int, body: bytes, flags: int = 0, *, length: int | None = None) -> bytes:
    """An SCTP chunk; ``length`` may lie."""
    said = len(body) + 4 if length is None else length
    return struct.pack("!BBH", kind, flags, said) + body + bytes(-len(body) % 4)


def data_chunk(tsn: int, data: bytes, *, stream: int = 0, sequence: int = 0, flags: int = 3) -> bytes:
    """A DATA chunk of a string message; ``flags`` 2 begins and 1 ends a message (RFC 9260 section 3.3.1)."""
    return raw_chunk(0, struct.pack("!LHHL", tsn, stream, sequence, sctp.WEBRTC_STRING) + data, flags)


def sctp_packet(association: sctp.RTCSctpTransport, chunks: bytes, *, tag: int | None = None) -> bytes:
    """A packet of ``association`` with any content and a right checksum."""
    verification_tag = association._remote_verification_tag if tag is None else tag
    header = struct.pack("!HHL", association._local_port, association._remote_port or 0, verification_tag)
    return header + struct.pack("<L", crc32c(header + bytes(4) + chunks)) + chunks
