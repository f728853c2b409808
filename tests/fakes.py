"""What surrounds a session, without a socket: sinks, a leg, an upstream, a bad network, a microphone, an ear."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from bridge.context import CallContext
from bridge.errors import BadEvent, BridgeError
from bridge.media.contracts import LegOwner, PassingLeg, PassingUpstream, Sink, SinkOwner
from bridge.media.opus import FRAME_MS, Encoder, new_encoder
from bridge.media.playback import Heard, Part, Playback
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32, pack_rtp
from bridge.session.contracts import Downstream, LivePassage
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, SESSION_HZ, AudioFormat
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import WEBRTC, CallState, CallStats, CallStatus, LegStats, UpstreamStats

__all__ = [
    "CALL_STATS",
    "CONTEXT",
    "FakeClock",
    "FakeLeg",
    "FakeSink",
    "FakeUpstream",
    "FfmpegEncoder",
    "LossyLink",
    "RtpSender",
    "likeness",
]

CONTEXT = CallContext(call_id="rtc_1", session_id="sess_1")
"""Of some call."""

CALL_STATS = CallStats(
    id="rtc_1",
    session_id="sess_1",
    state=CallState.CONNECTED,
    transport=WEBRTC,
    model="parrot",
    started_at=0.0,
    metadata={},
    warnings=[],
    status=CallStatus.ACTIVE,
    seconds=0.0,
    listeners=[],
    legs=[],
    peer=None,
    upstream=UpstreamStats(name="local", lines=0, lost=0, answers=0),
    key_id="api",
    setup_ms=None,
    dropped_events=0,
)
"""Of that call."""

JsonEvent = dict[str, Any]
"""One event as a client reads it."""


class FakeClock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeSink:
    """A socket. With ``room`` for so many messages it is full until the client ``read``s; else it takes everything."""

    def __init__(self, room: int | None = None) -> None:
        self.messages: list[EncodedMessage] = []
        """What the client has read."""
        self.closed: tuple[int, str] | None = None
        self.sent_when_closed = 0
        self._room = room
        self._buffer: list[EncodedMessage] = []
        self._is_full = False
        self._owner: SinkOwner | None = None

    def attach(self, owner: SinkOwner) -> None:
        self._owner = owner

    def send_message(self, message: EncodedMessage) -> None:
        if self.closed is not None:
            self.sent_when_closed += 1
        elif self._room is None:
            self.messages.append(message)
        else:
            self._buffer.append(message)
            if len(self._buffer) >= self._room:
                self.fill()

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    @property
    def buffered_bytes(self) -> int:
        return sum(message.size for message in self._buffer)

    def fill(self) -> None:
        """No more room, as the socket itself finds."""
        if not self._is_full and self._owner is not None:
            self._is_full = True
            self._owner.pause()

    def read(self) -> None:
        """The client takes what its socket holds; there is room again."""
        self.messages += self._buffer
        self._buffer.clear()
        if self._is_full and self._owner is not None:
            self._is_full = False
            self._owner.resume()

    @property
    def events(self) -> list[JsonEvent]:
        """What the client has read, decoded."""
        return [json.loads(message.payload) for message in self.messages if not message.is_binary]

    @property
    def types(self) -> list[str]:
        """The names of what the client has read."""
        return [str(event["type"]) for event in self.events]

    def of_type(self, name: str) -> list[JsonEvent]:
        """The events of one name."""
        return [event for event in self.events if event["type"] == name]

    def forget(self) -> None:
        """What was read so far is of no interest."""
        self.messages.clear()


class FakeLeg:
    """A peer at the other end of a call: it speaks, and hears what is played at the pace of ``hear``."""

    def __init__(self, owner: LegOwner, *, hangs: bool = False, audio_format: AudioFormat = PCM16) -> None:
        self.input_format = self.output_format = audio_format
        self.reason: str | None = None
        self.played = b""
        self.limit_ms: int | None = None
        """Of sound that it takes ahead; None: all of it."""
        self._owner = owner
        self._hangs = hangs
        self._playback = Playback(audio_format.rate_hz)

    # The peer's side

    def connect(self, sink: Sink | None = None) -> None:
        """Sound flows, and over ``sink`` events do."""
        self._owner.leg_connected()
        if sink is not None:
            self.open_channel(sink)

    def open_channel(self, sink: Sink) -> None:
        """Events flow over ``sink``."""
        self._owner.channel_opened(sink)

    def speak(self, sound: bytes) -> None:
        """Into the microphone."""
        self._owner.receive_leg_audio(sound)

    def say(self, event: JsonEvent) -> None:
        """Over the data channel."""
        self._owner.receive_leg_text(json.dumps(event))

    def hear(self, duration_ms: int) -> None:
        """Time passes, and so much is played."""
        for played in self._playback.play(duration_ms * self.output_format.rate_hz // 1000):
            self._owner.played(played)

    @property
    def queued_ms(self) -> int:
        """What is still to be heard."""
        return self._playback.queued_ms

    def vanish(self, reason: str, error: BridgeError | None = None) -> None:
        """Gone, wished for or not."""
        self._owner.leg_closed(reason, error)

    # The session's side

    passage: PassingLeg | None = None
    failure: BridgeError | None = None

    def play(self, part: Part, sound: bytes) -> bool:
        if self.limit_ms is not None and self.queued_ms + self.output_format.ms_of(len(sound)) > self.limit_ms:
            return False
        self.played += sound
        self._playback.queue(part, len(sound) // self.output_format.bytes_per_sample)
        return True

    @property
    def waiting_bytes(self) -> int:
        return self.output_format.size_of(self.queued_ms)

    def end(self, response_id: str) -> None:
        for stopped in self._playback.end(response_id):
            self._owner.played(stopped)

    def clear(self) -> tuple[str, list[Heard]] | None:
        return self._playback.clear()

    def mark(self, mark_id: str) -> bool:
        return self._playback.mark(mark_id)

    def hang_up(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            if not self._hangs:
                self.vanish(reason)

    def stats(self) -> LegStats:
        return LegStats(sent=0, queued_ms=self.queued_ms, overflow_ms=0, faults=0)


class FakeUpstream:
    """A service that does what it is told at once, and answers when the test lets it."""

    def __init__(self) -> None:
        self.events: list[client.ClientEvent] = []
        self.audio = b""
        self.closed = 0
        self.refusal: BadEvent | None = None
        """Answers every event from now on."""
        self.input_format = PCM16
        self.output_format = PCM16

    passage: PassingUpstream | None = None
    live_passage: LivePassage | None = None

    def change(self, audio_format: AudioFormat) -> None:
        """Another service takes over, which hears and speaks in this format."""
        self.input_format = self.output_format = audio_format
        self.downstream.upstream_changed()

    def start(self, downstream: Downstream, state: SessionState) -> None:
        self.downstream = downstream
        self.state = state
        downstream.deliver_event(server.SessionCreated(session=state.config))

    def receive_client_event(self, message: client.ClientMessage) -> None:
        if self.refusal is not None:
            raise self.refusal
        event = message.known
        self.events.append(event)
        if isinstance(event, client.SessionUpdate):
            self.downstream.deliver_event(server.SessionUpdated(session=self.state.updated(event.session)))
        elif isinstance(event, client.ConversationItemTruncate):
            self.downstream.deliver_event(
                server.ConversationItemTruncated(
                    item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
                )
            )

    def receive_caller_audio(self, sound: bytes) -> None:
        self.audio += sound

    def stats(self) -> UpstreamStats:
        return UpstreamStats(name="fake", lines=1, lost=0, answers=0)

    async def aclose(self) -> None:
        self.closed += 1


class LossyLink:
    """A network on which packet number ``n`` is dropped, delayed or doubled, by a pattern or by a seed.

    What is delayed by more than the distance to the next packet arrives behind it.
    """

    def __init__(
        self,
        *,
        drop: Collection[int] | Callable[[int], bool] = (),
        delay_s: Mapping[int, float] | Callable[[int], float] | None = None,
        double: Collection[int] = (),
    ) -> None:
        self.dropped = 0
        self._drops = drop if callable(drop) else lambda number: number in drop
        self._delay = delay_s if callable(delay_s) else lambda number: (delay_s or {}).get(number, 0.0)
        self._double = double
        self._number = 0
        self._under_way: list[tuple[float, int, bytes]] = []

    @classmethod
    def seeded(
        cls, seed: int, packets: int, *, loss: float = 0.0, jitter_s: float = 0.0, doubles: float = 0.0
    ) -> "LossyLink":
        """Chance, the same at every run; delays are uniform from 0 to ``jitter_s``."""
        chance = np.random.default_rng(seed)
        drop, double = (set(np.flatnonzero(chance.random(packets) < rate).tolist()) for rate in (loss, doubles))
        delay_s = dict(enumerate((chance.random(packets) * jitter_s).tolist()))
        return cls(drop=drop, delay_s=delay_s, double=double)

    def send(self, packet: bytes, now: float) -> None:
        """Takes a packet."""
        number, self._number = self._number, self._number + 1
        if self._drops(number):
            self.dropped += 1
            return
        arrival = (now + self._delay(number), number, packet)
        self._under_way += [arrival] * (2 if number in self._double else 1)

    def receive(self, now: float) -> list[tuple[float, bytes]]:
        """What has arrived by ``now``, in order of arrival, each with its time."""
        arrived = sorted(arrival for arrival in self._under_way if arrival[0] <= now)
        self._under_way = [arrival for arrival in self._under_way if arrival[0] > now]
        return [(at, packet) for at, _, packet in arrived]


class FfmpegEncoder:
    """Another's encoder: Opus that leaves the waveform alone, in frames of any length, in stereo on the left only."""

    def __init__(
        self, *, frame_ms: int = FRAME_MS, layout: str = "mono", rate_hz: int = SESSION_HZ, has_fec: bool = False
    ) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = rate_hz
        context.format = "s16"
        context.layout = layout
        context.bit_rate = 96_000
        context.options = {"application": "audio", "frame_duration": str(frame_ms)}
        if has_fec:
            context.bit_rate = 24_000
            context.options = {**context.options, "application": "voip", "fec": "1", "packet_loss": "20"}
        self._context = context
        self._pts = 0

    def encode(self, pcm: bytes) -> bytes:
        """One frame, mono, as one packet."""
        left = np.frombuffer(pcm, np.int16)
        channels = len(self._context.layout.channels)
        samples = np.zeros((len(left), channels), np.int16)
        samples[:, 0] = left
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=self._context.layout.name)
        frame.sample_rate = self._context.sample_rate
        frame.pts = self._pts
        self._pts += len(left)
        [packet] = self._context.encode(frame)
        return bytes(packet)

    def set_packet_loss(self, percent: int) -> None:
        """Makes no difference to it."""

    def set_dtx(self, is_on: bool) -> None:
        """The same."""

    def limit_bitrate(self, bitrate: int) -> None:
        """The same."""

    def set_complexity(self, complexity: int) -> None:
        """The same."""


class NotedLoss:
    """An encoder that notes which losses it was told of."""

    def __init__(self, encoder: Encoder) -> None:
        self.loss_percents: list[int] = []
        self._encoder = encoder

    def encode(self, pcm: bytes) -> bytes:
        """One frame as one packet."""
        return self._encoder.encode(pcm)

    def set_packet_loss(self, percent: int) -> None:
        """Notes it, and passes it on."""
        self.loss_percents.append(percent)
        self._encoder.set_packet_loss(percent)

    def set_dtx(self, is_on: bool) -> None:
        """Passes it on."""
        self._encoder.set_dtx(is_on)

    def limit_bitrate(self, bitrate: int) -> None:
        """Passes it on."""
        self._encoder.limit_bitrate(bitrate)

    def set_complexity(self, complexity: int) -> None:
        """Passes it on."""
        self._encoder.set_complexity(complexity)


class RtpSender:
    """A microphone: PCM16 mono becomes RTP packets, one for each frame of ``frame_ms``."""

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        rate_hz: int = SESSION_HZ,
        frame_ms: int = FRAME_MS,
        step: int | None = None,
        sequence: int = 0,
        rtp_timestamp: int = 0,
        ssrc: int = 0x5EED,
        payload_type: int = 111,
    ) -> None:
        """``step``: by how many ticks its clock moves for a packet, if it does not count as RFC 7587 says."""
        self.encoder = encoder or new_encoder(rate_hz)
        self.frame_ms = frame_ms
        self.frame_bytes = 2 * rate_hz * frame_ms // 1000
        self.ticks = step or CLOCK_HZ * frame_ms // 1000
        self.sequence = sequence
        self.rtp_timestamp = rtp_timestamp
        self.ssrc = ssrc
        self.payload_type = payload_type

    def talk(self, pcm: bytes) -> list[bytes]:
        """All whole frames of ``pcm``."""
        return [
            self.send(self.encoder.encode(pcm[at : at + self.frame_bytes]))
            for at in range(0, len(pcm) - self.frame_bytes + 1, self.frame_bytes)
        ]

    def send(self, payload: bytes) -> bytes:
        """One packet with any payload, worth a frame of RTP time."""
        packet = pack_rtp(
            payload,
            payload_type=self.payload_type,
            sequence=self.sequence,
            rtp_timestamp=self.rtp_timestamp,
            ssrc=self.ssrc,
        )
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.rtp_timestamp = (self.rtp_timestamp + self.ticks) & MAX_UINT32
        return packet

    def pause(self, duration_ms: int) -> None:
        """RTP time passes without a packet, as in DTX."""
        self.rtp_timestamp = (self.rtp_timestamp + duration_ms * CLOCK_HZ // 1000) & MAX_UINT32


def likeness(heard: bytes, spoken: bytes, *, max_shift: int = SESSION_HZ // 10) -> tuple[float, int]:
    """The best correlation of ``heard`` with ``spoken``, and by how many samples ``heard`` is late there."""
    length = min(len(heard), len(spoken)) // 2
    ours, theirs = (np.frombuffer(pcm, "<i2", length).astype(np.float64) for pcm in (heard, spoken))
    size = 1 << (2 * length - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(ours, size) * np.fft.rfft(theirs, size).conj(), size)
    shifts = np.arange(-max_shift, max_shift + 1)
    best = int(shifts[np.argmax(products[shifts])])
    norm = np.sqrt(np.sum(ours**2) * np.sum(theirs**2))
    return (float(products[best] / norm) if norm else 0.0), best
