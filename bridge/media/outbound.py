"""From sound to RTP packets: a bounded queue, an encoder, and a packet every 20 ms while there is something to hear.

Time is counted in ticks of 20 ms, sounding or silent, so RTP timestamps stay true across pauses; the first packet of a
talkspurt carries the marker. A few frames of silence follow the last sound: the receiver's concealment then fades from
silence and its jitter buffer lets the last words out.

While the peer reports a loss, and takes redundancy (RFC 2198), each packet carries the one before the last once more;
the last one is in its FEC. Both together take no more bits than the sound does while nothing is lost.
"""

from collections import deque

from bridge.media.extensions import HeaderExtensions
from bridge.media.opus import FRAME_MS, MAX_BITRATE, Encoder
from bridge.media.passing import PassedPacket, packet_samples
from bridge.media.playback import PART_BYTES, Heard, Part, Playback, Played
from bridge.media.red import write_red
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32, pack_rtp, timestamp_difference

__all__ = ["OutboundAudio"]

_TICKS = CLOCK_HZ * FRAME_MS // 1000
_TAIL_FRAMES = 10
_ENDLESS = 1 << 62
_PIECE_BYTES = 64  # of memory, besides its sound
_DTX_BYTES = 2  # libopus: a packet of up to two bytes need not be sent
_MAX_WITH_COPY_BYTES = 800  # speech has a fifth of it; more might not fit into a datagram


class OutboundAudio:
    """What one peer is going to hear: ``push`` sound at any speed, ``tick`` every 20 ms."""

    def __init__(
        self, encoder: Encoder, *, rate_hz: int, payload_type: int, ssrc: int, sequence: int, rtp_timestamp: int,
        limit_s: int, is_microphone: bool = False
    ) -> None:  # fmt: skip
        """``is_microphone``: silence is sent too, for as long as nothing else is there, as a microphone does."""
        self.playback = Playback(rate_hz)
        self.packets = 0
        self.passed = 0
        """How many of these were passed on from another stream."""
        self.payload_bytes = 0
        self.overflow_ms = 0
        self._encoder = encoder
        self._frame_bytes = 2 * rate_hz * FRAME_MS // 1000
        self._bytes_per_ms = 2 * rate_hz // 1000
        self._rate_hz = rate_hz
        self._limit_bytes = 2 * rate_hz * limit_s
        self.payload_type = payload_type
        """Of Opus; 0 if the peer hears no sound, or not yet."""
        self.ssrc = ssrc
        self._extensions: HeaderExtensions | None = None
        self._red: int | None = None  # the payload type of redundancy, if the peer takes it
        self._is_lossy = False
        self._last = self._before_last = b""  # payloads of this talkspurt
        self._sequence = sequence
        self._rtp_timestamp = rtp_timestamp
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._head = b""  # the piece that is being played, from ``_head_at`` on
        self._head_at = 0
        self._tail_frames = _ENDLESS if is_microphone else _TAIL_FRAMES
        self._tail = self._tail_frames
        self._talking = False
        self._silence = bytes(self._frame_bytes)
        self._passed_ssrc: int | None = None
        self._passed_offset = (0, 0)  # between a stream that is passed on and ours: sequence numbers, clock ticks
        self._passed_end: int | None = None
        self._ahead_samples = 0  # of the last packet that was passed on: it is being heard

    def negotiate(self, *, extensions: HeaderExtensions, uses_dtx: bool, bitrate: int, red: int | None = None) -> None:
        """Sets what the peer asked for: header extensions, silence left out, and a limit of bits a second.

        ``red`` is the payload type of redundancy, if the peer takes it; a limit rules it out.
        """
        self._red = red if bitrate >= MAX_BITRATE else None
        self._extensions = None if extensions.is_empty else extensions
        self._encoder.set_dtx(uses_dtx)
        self._encoder.limit_bitrate(bitrate)

    def only_pass_on(self) -> None:
        """No sound of our own comes, and so no silence around it: nothing is ever encoded."""
        self._tail_frames = self._tail = 0

    def set_packet_loss(self, percent: int) -> None:
        """Sets the loss that the peer reports; the in-band FEC and copies follow it."""
        self._is_lossy = percent > 0
        self._encoder.set_packet_loss(percent)

    def set_complexity(self, complexity: int) -> None:
        """Sets how hard the encoder tries."""
        self._encoder.set_complexity(complexity)

    @property
    def rtp_timestamp(self) -> int:
        """The RTP timestamp of the next tick."""
        return self._rtp_timestamp

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next packet."""
        return self._sequence

    def push(self, part: Part, pcm: bytes) -> bool:
        """Queues PCM16 mono; what is over the limit is left out, counted in ``overflow_ms``, and answered by False."""
        if self._queued_bytes + len(pcm) > self._limit_bytes:
            self.overflow_ms += len(pcm) // self._bytes_per_ms
            return False
        self.own_again()
        self._queue.append(pcm)
        self._queued_bytes += len(pcm)
        self.playback.queue(part, len(pcm) // 2)
        return True

    @property
    def is_queued(self) -> bool:
        """Whether sound waits to be played."""
        return self._queued_bytes > 0

    @property
    def waiting_bytes(self) -> int:
        """About how much memory that takes which is still to be played."""
        return self._queued_bytes + _PIECE_BYTES * len(self._queue) + PART_BYTES * self.playback.parts

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Drops what is queued. Returns what was cut and where; None if nothing was left."""
        self._queue.clear()
        self._queued_bytes = 0
        self._head, self._head_at = b"", 0
        self._ahead_samples = 0
        return self.playback.clear()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to send at the next tick."""
        return not self._queued_bytes and (not self._tail or self._passed_ssrc is not None)

    def tick(self) -> tuple[bytes | None, list[Played]]:
        """Lets 20 ms pass. Returns the packet to send, if there is one, and what the peer has heard by it."""
        rtp_timestamp = self._rtp_timestamp
        self._rtp_timestamp = (rtp_timestamp + _TICKS) & MAX_UINT32
        events: list[Played] = []
        is_voice = self._queued_bytes > 0
        if is_voice:
            frame = self._next_frame()
            events = self.playback.play(len(frame) // 2)
            if len(frame) < self._frame_bytes:
                frame += self._silence[len(frame) :]
            self._tail = self._tail_frames
        elif self._tail:
            self._tail -= 1
            frame = self._silence
        else:
            self._talking = False
            return None, events
        payload = self._encoder.encode(frame)
        if len(payload) <= _DTX_BYTES:
            self._talking = False
            return None, events
        payload_type = self.payload_type
        if self._red is not None:
            before_last, self._before_last, self._last = self._before_last, self._last, payload
            if not self._talking:
                self._before_last = b""
            elif self._is_lossy and before_last and len(payload) + len(before_last) <= _MAX_WITH_COPY_BYTES:
                payload = write_red(payload, before_last, payload_type=payload_type, frame_ticks=_TICKS)
                payload_type = self._red
        packet = pack_rtp(
            payload,
            payload_type=payload_type,
            sequence=self._sequence,
            rtp_timestamp=rtp_timestamp,
            ssrc=self.ssrc,
            marker=not self._talking,
            extension=b"" if self._extensions is None else self._extensions.write_extensions(frame, is_voice=is_voice),
        )
        self._talking = True
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.packets += 1
        self.payload_bytes += len(payload)
        return packet, events

    def forward(self, passed: PassedPacket) -> tuple[int, bytes]:
        """Another stream's packet as one of ours, and its number; a stream that begins goes on from where ours is.

        Gaps stay gaps and late packets stay late: the receiver sees the network as it was.
        """
        if passed.ssrc != self._passed_ssrc:
            self._passed_ssrc = passed.ssrc
            self._catch_up()
            self._passed_offset = self._sequence - passed.sequence, self._rtp_timestamp - passed.rtp_timestamp
        sequence = passed.sequence + self._passed_offset[0] & 0xFFFF
        rtp_timestamp = passed.rtp_timestamp + self._passed_offset[1] & MAX_UINT32
        if (sequence - self._sequence) & 0xFFFF < 0x8000:
            self._sequence = (sequence + 1) & 0xFFFF
            self._passed_end = (rtp_timestamp + packet_samples(passed.payload, CLOCK_HZ)) & MAX_UINT32
        self.packets += 1
        self.passed += 1
        self.payload_bytes += len(passed.payload)
        packet = pack_rtp(
            passed.payload,
            payload_type=self.payload_type,
            sequence=sequence,
            rtp_timestamp=rtp_timestamp,
            ssrc=self.ssrc,
            marker=passed.is_marked,
        )
        return sequence, packet

    def own_again(self) -> None:
        """Ends the passing on of another stream: our next packet follows the last one of it."""
        if self._passed_ssrc is not None:
            self._passed_ssrc = None
            self._talking = False
            self._catch_up()

    def _catch_up(self) -> None:
        if self._passed_end is not None and timestamp_difference(self._passed_end, self._rtp_timestamp) > 0:
            self._rtp_timestamp = self._passed_end

    def heard(self, part: Part, passed: PassedPacket) -> list[Played]:
        """A packet of ``part`` was passed on: it is heard while the next one is under way."""
        events = self.end_heard()
        self._ahead_samples = packet_samples(passed.payload, self._rate_hz)
        self.playback.queue(part, self._ahead_samples)
        return events

    def end_heard(self) -> list[Played]:
        """Notes that no packet follows which is passed on: the last one has been heard."""
        samples, self._ahead_samples = self._ahead_samples, 0
        return self.playback.play(samples) if samples else []

    def skip(self, ticks: int) -> None:
        """Lets ``ticks`` of 20 ms pass unsent: the clock was late by more than can be caught up."""
        self._talking = False
        self._rtp_timestamp = (self._rtp_timestamp + ticks * _TICKS) & MAX_UINT32

    def pass_time(self) -> list[Played]:
        """Lets a tick pass of which the peer itself hears nothing, although what is queued is heard, by others."""
        self.skip(1)
        return self.playback.play(len(self._next_frame()) // 2) if self._queued_bytes else []

    def _next_frame(self) -> bytes:
        """Takes up to 20 ms from the queue; large pieces are read in place, not moved."""
        missing = self._frame_bytes
        frame = b""
        while missing:
            piece = self._head[self._head_at : self._head_at + missing]
            self._head_at += len(piece)
            missing -= len(piece)
            frame = frame + piece if frame else piece
            if missing:
                if not self._queue:
                    break
                self._head, self._head_at = self._queue.popleft(), 0
        self._queued_bytes -= len(frame)
        return frame
