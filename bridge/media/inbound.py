"""From RTP packets to sound: reorder, recover, conceal, and keep the time of the sound equal to RTP time.

A machine is listening, so there is no playout delay: a packet that comes in order is decoded on arrival. Only behind a
gap do packets wait, as long as the measured jitter makes it likely that the missing one still comes (20 to 120 ms).
What does not come is recovered from the next packet's in-band FEC or concealed. A packet with redundancy (RFC 2198)
fills the gap before it at once. Where the sender is silent on purpose (DTX, a muted track) the same length of silence
goes out in real time, so that whoever measures pauses can.

    in order ──────────────────────────────▶ decode
    ahead ──▶ held ──(gap filled)──────────▶ decode
                   └─(waited long enough)──▶ conceal, recover, decode
    nothing for a while ───────────────────▶ silence
"""

from dataclasses import dataclass

import numpy as np

from bridge.errors import MediaError
from bridge.media.opus import Decoder, frame_ms
from bridge.media.passing import MuteDecoder, PassedPacket, PassedPacketTaker
from bridge.media.red import Redundancy, parse_red
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32, parse_rtp, timestamp_difference

__all__ = ["InboundAudio", "InboundStats", "Reception"]

_MIN_WAIT_S, _MAX_WAIT_S = 0.020, 0.120
_JITTER_FACTOR = 3  # three mean deviations cover what is likely to come at all
_MAX_HELD = 64  # packets behind a gap; 1.28 s of 20 ms frames
_RESTART_PACKETS = 3  # so many in a row from far away are a restarted sender, fewer are strays
_SILENCE_AFTER_S = 0.200  # no packet for so long: the sender is silent on purpose
_SILENCE_MARGIN_S = 0.080  # silence keeps so far behind real time, so that late speech still fits
_MAX_GAP = CLOCK_HZ  # one second; RTP time that jumps further is a new timeline
_MAX_ALLOWANCE = 2 * CLOCK_HZ  # gaps may be filled so far ahead of real time
_MAX_CONCEAL = CLOCK_HZ // 10  # concealment has faded after 100 ms; silence from there on
_FRAME = CLOCK_HZ // 50
_QUIET = 300  # of 32,768: between words, 40 dB below full scale
_CONCEAL_STEP = CLOCK_HZ // 400  # libopus conceals in multiples of 2.5 ms


@dataclass(slots=True)
class InboundStats:
    """What became of a peer's packets; counters since the start, times in ms."""

    packets: int = 0
    """Well-formed packets of our stream, late and duplicate ones included."""
    lost: int = 0
    """Packets whose time passed without them."""
    late: int = 0
    """Packets that came after their time had passed, duplicates included."""
    recovered: int = 0
    """Of those, the ones whose sound was got back from a later packet, by in-band FEC or redundancy."""
    redundant: int = 0
    """Packets of redundant audio, which may bring copies of those before them."""
    malformed: int = 0
    """Packets that were no RTP, or whose payload was no Opus."""
    foreign: int = 0
    """Packets of another SSRC or payload type."""
    discontinuities: int = 0
    """Times at which RTP time was anchored anew."""
    concealed_ms: int = 0
    silence_ms: int = 0
    decoded_ms: int = 0
    jitter_ms: float = 0.0
    """Interarrival jitter (RFC 3550 section 6.4.1)."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What a receiver report tells of a stream, since its start (RFC 3550 appendix A)."""

    ssrc: int
    highest_sequence: int
    """Counted on over each wrap."""
    expected: int
    packets: int
    jitter: float
    """Clock ticks."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A packet that waits behind a gap, or a copy of one that another packet brought along."""

    rtp_timestamp: int
    payload: bytes
    arrival: float
    is_copy: bool = False


class InboundAudio:
    """One peer's microphone: ``receive`` and ``poll`` give PCM16 mono at ``rate_hz`` as it becomes due."""

    def __init__(self, decoder: Decoder, *, payload_type: int, rate_hz: int) -> None:
        self.stats = InboundStats()
        self.red_payload_type: int | None = None
        """Set where redundancy was negotiated."""
        self.taker: PassedPacketTaker | None = None
        """Gets every packet as it comes, whatever becomes of it here."""
        self._decoder = self._ears = decoder
        self._mute = MuteDecoder(rate_hz)
        self._payload_type = payload_type
        self._ticks_per_sample = CLOCK_HZ // rate_hz
        self._ssrc: int | None = None
        self._base = (0, 0, 0)  # at the timeline's start: its sequence number, how many were passed and came by then
        self._next_sequence = 0
        self._next_timestamp = 0
        self._held: dict[int, _Held] = {}
        self._last_arrival = 0.0
        self._last_timestamp = 0
        self._transit = 0
        self._jitter = 0.0  # clock ticks
        self._strangers = 0  # packets in a row that do not belong to our timeline
        self._stranger_ssrc = 0
        self._allowance = float(_MAX_ALLOWANCE)  # clock ticks of gaps that may be filled
        self._allowance_at = 0.0
        self._last_pcm = b"\0\0"
        self._fell_silent = False  # since the last packet that was decoded
        self._excess = 0  # clock ticks of silence given beyond RTP time, to be made up for

    def receive(self, packet: bytes, now: float) -> bytes:
        """Takes one decrypted RTP packet; returns the sound that became due, often 20 ms, perhaps none."""
        header = parse_rtp(packet)
        if header is None:
            self.stats.malformed += 1
            return b""
        payload_type, sequence, rtp_timestamp, ssrc, start, end = header
        copies: Redundancy | None = None
        if payload_type != self._payload_type:
            if payload_type != self.red_payload_type:
                self.stats.foreign += 1
                return b""
            parsed = parse_red(packet, start, end, payload_type=self._payload_type)
            if parsed is None:
                self.stats.malformed += 1
                return b""
            start, copies = parsed
            self.stats.redundant += 1
        ahead = (sequence - self._next_sequence) & 0xFFFF
        if ssrc != self._ssrc:
            if not self._may_take_over(ssrc, now):
                self.stats.foreign += 1
                return b""
            self._anchor(ssrc, sequence, rtp_timestamp, now)
            ahead = 0
        elif ahead > _MAX_HELD:
            if ahead >= 0x10000 - _MAX_HELD:
                return self._too_late()
            if self._is_back(ahead, rtp_timestamp, now):
                self.stats.lost += ahead
                self.stats.late += len(self._held)
                self._next_sequence = sequence
            elif self._is_restarted(ssrc):
                self._anchor(ssrc, sequence, rtp_timestamp, now)
            else:
                return self._too_late()
            self._held.clear()
            ahead = 0
        self._strangers = 0
        self.stats.packets += 1
        self._measure_jitter(rtp_timestamp, now)
        payload = packet[start:end]
        if payload:  # padding says nothing of the sender's time
            self._last_arrival, self._last_timestamp = now, rtp_timestamp
            if self.taker is not None:
                self._pass(PassedPacket(payload, ssrc, sequence, rtp_timestamp, packet[1] >= 0x80))
        if ahead == 0:
            pcm = self._take(sequence, rtp_timestamp, payload)
            return pcm + self._drain(now) if self._held else pcm
        known = self._held.get(sequence)
        if known is not None and not known.is_copy:
            self.stats.late += 1
        else:
            self._held[sequence] = _Held(rtp_timestamp, payload, now)
            if copies:
                self._hold_copies(copies, sequence, rtp_timestamp, now)
        return self._drain(now)

    def poll(self, now: float) -> bytes:
        """What time alone makes due: the end of a wait behind a gap, or silence."""
        if self._held:
            return self._drain(now)
        if self._ssrc is None or now - self._last_arrival < _SILENCE_AFTER_S:
            return b""
        return self._silence(now)

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """Packets go to ``taker`` as well; without ``decodes`` what comes out here is silence, at no cost."""
        self.taker = taker
        self._decoder = self._ears if decodes else self._mute

    @property
    def is_mute(self) -> bool:
        """What comes out is nobody's sound."""
        return self._decoder is self._mute

    def _pass(self, packet: PassedPacket) -> None:
        if self.taker is not None and not self.taker(packet):
            self.pass_to(None, decodes=True)

    @property
    def ssrc(self) -> int | None:
        """Of the stream that is heard; None before the first packet."""
        return self._ssrc

    @property
    def held(self) -> int:
        """How many packets wait behind a gap."""
        return len(self._held)

    def reception(self) -> Reception | None:
        """The state of the stream for a receiver report; None before the first packet."""
        if self._ssrc is None:
            return None
        base_sequence, base_passed, base_packets = self._base
        ahead = max(((held - self._next_sequence) & 0xFFFF for held in self._held), default=-1) + 1
        expected = self._passed() - base_passed + ahead
        return Reception(
            ssrc=self._ssrc,
            highest_sequence=base_sequence + expected - 1,
            expected=expected,
            packets=self.stats.packets - base_packets,
            jitter=self._jitter,
        )

    def _passed(self) -> int:
        """Sequence numbers that are behind us: packets that were decoded in their turn, and lost ones."""
        stats = self.stats
        waiting = sum(not held.is_copy for held in self._held.values())
        return stats.packets - stats.late - waiting + stats.lost

    @property
    def wait_s(self) -> float:
        """How long a gap is waited for at present; the reorder delay that a loss costs."""
        return min(_MAX_WAIT_S, max(_MIN_WAIT_S, _MIN_WAIT_S + _JITTER_FACTOR * self._jitter / CLOCK_HZ))

    # In order

    def _take(self, sequence: int, rtp_timestamp: int, payload: bytes) -> bytes:
        """Decodes the packet that is next; RTP time that has moved on by itself becomes silence."""
        self._next_sequence = (sequence + 1) & 0xFFFF
        if not payload:
            return b""  # padding only; its time shows as a gap before the next packet
        gap = timestamp_difference(rtp_timestamp, self._next_timestamp)
        quiet = b""
        if gap:
            quiet = self._bridge_gap(gap)
            self._next_timestamp = rtp_timestamp
        pcm = self._decode(payload)
        return quiet + pcm if quiet else pcm

    def _decode(self, payload: bytes) -> bytes:
        try:
            pcm = self._decoder.decode(payload)
        except MediaError:
            self.stats.malformed += 1
            return b""  # its time shows as a gap before the next packet
        self._fell_silent = False
        self._last_pcm = pcm
        ticks = len(pcm) // 2 * self._ticks_per_sample
        self._next_timestamp = (self._next_timestamp + ticks) & MAX_UINT32
        if self._excess >= ticks and _is_quiet(pcm):
            self._excess -= ticks
            return b""
        self.stats.decoded_ms += ticks * 1000 // CLOCK_HZ
        return pcm

    def _bridge_gap(self, gap: int) -> bytes:
        """Silence for RTP time that passed between two packets in order: DTX, or a muted track."""
        if gap < 0:  # silence ran ahead of packets that were only late: the next silence is shorter by so much
            if -gap <= _MAX_GAP:
                self._excess -= gap
            else:
                self.stats.discontinuities += 1
            return b""
        if not self._affords(gap):
            self.stats.discontinuities += 1
            return b""
        return self._quiet(gap)

    def _affords(self, gap: int) -> bool:
        """Whether ``gap`` may be filled: in the long run no more RTP time than real time, whatever a sender claims."""
        now = self._last_arrival
        self._allowance = min(_MAX_ALLOWANCE, self._allowance + (now - self._allowance_at) * CLOCK_HZ)
        self._allowance_at = now
        if gap > min(self._allowance, _MAX_GAP):
            return False
        self._allowance -= gap
        return True

    # Behind a gap

    def _drain(self, now: float) -> bytes:
        """Decodes what was held and is now next; gives up on gaps that were waited for long enough."""
        pieces = []
        while self._held:
            held = self._held.pop(self._next_sequence, None)
            if held is not None:
                if held.is_copy:
                    self.stats.lost += 1
                    self.stats.recovered += 1
                pieces.append(self._take(self._next_sequence, held.rtp_timestamp, held.payload))
            elif now - min(held.arrival for held in self._held.values()) >= self.wait_s:
                pieces.append(self._give_up())
            else:
                break
        return b"".join(pieces)

    def _give_up(self) -> bytes:
        """Sound for the packets that are missing before the first held one, which is then next."""
        sequence = min(self._held, key=lambda held: (held - self._next_sequence) & 0xFFFF)
        held = self._held[sequence]
        self.stats.lost += (sequence - self._next_sequence) & 0xFFFF
        self._next_sequence = sequence
        gap = timestamp_difference(held.rtp_timestamp, self._next_timestamp)
        if gap <= 0 or not self._affords(gap):
            return b""
        self._next_timestamp = held.rtp_timestamp
        return self._conceal(gap, held.payload)

    def _hold_copies(self, copies: Redundancy, sequence: int, rtp_timestamp: int, now: float) -> None:
        """Puts what a packet says of those before it in their places, where they are missing."""
        for back, (offset, payload) in enumerate(reversed(copies), 1):
            place = (sequence - back) & 0xFFFF
            if (place - self._next_sequence) & 0xFFFF >= _MAX_HELD:
                break  # already passed
            if payload and place not in self._held:
                self._held[place] = _Held((rtp_timestamp - offset) & MAX_UINT32, payload, now, is_copy=True)

    def _conceal(self, gap: int, payload: bytes) -> bytes:
        """Sound for ``gap`` clock ticks of lost packets: the last frame from ``payload``'s FEC, the rest guessed.

        A guess fades out within 100 ms; what is longer, or no multiple of 2.5 ms, is silence. In silence nothing is
        guessed: the sound before it would come back.
        """
        audible = gap - gap % _CONCEAL_STEP
        recovered = 0
        if payload and self._decoder.has_fec(payload):
            recovered = min(audible, int(frame_ms(payload) * CLOCK_HZ) // 1000)
        guessed = 0 if self._fell_silent else min(audible - recovered, _MAX_CONCEAL)
        silent = gap - guessed - recovered
        pieces = [self._guess(guessed, fades=silent >= _CONCEAL_STEP), self._quiet(silent)]
        if recovered:
            pieces.append(self._recover(payload, recovered // self._ticks_per_sample))
        self.stats.concealed_ms += (guessed + recovered) * 1000 // CLOCK_HZ
        return b"".join(pieces)

    def _guess(self, ticks: int, *, fades: bool) -> bytes:
        """Concealment by the decoder; one that ``fades`` is silent at its end."""
        per_sample = self._ticks_per_sample
        pcm = b"".join(self._decoder.conceal(min(_FRAME, ticks - at) // per_sample) for at in range(0, ticks, _FRAME))
        if not fades or not pcm:
            return pcm
        samples = np.frombuffer(pcm, "<i2")
        return (samples * np.linspace(1, 0, len(samples))).astype("<i2").tobytes()

    def _recover(self, payload: bytes, samples: int) -> bytes:
        try:
            pcm = self._decoder.recover(payload, samples)
        except MediaError:  # it is counted when its own turn comes
            return self._decoder.conceal(samples)
        self.stats.recovered += 1
        return pcm

    # Silence

    def _silence(self, now: float) -> bytes:
        """As much silence as real time has passed since the last packet, less a margin; speech fades into it."""
        since = max(0, timestamp_difference(self._next_timestamp, self._last_timestamp))
        due = int((now - self._last_arrival - _SILENCE_MARGIN_S) * CLOCK_HZ) - since
        if due < _FRAME:
            return b""
        due -= due % _FRAME
        self._next_timestamp = (self._next_timestamp + due) & MAX_UINT32
        fading = 0
        if not self._fell_silent and not _is_quiet(self._last_pcm):
            fading = min(due, _MAX_CONCEAL)
            self.stats.concealed_ms += fading * 1000 // CLOCK_HZ
        self._fell_silent = True
        return self._guess(fading, fades=True) + self._quiet(due - fading)

    def _quiet(self, ticks: int) -> bytes:
        owed = min(self._excess, ticks)
        self._excess -= owed
        ticks -= owed
        self.stats.silence_ms += ticks * 1000 // CLOCK_HZ
        return bytes(2 * (ticks // self._ticks_per_sample))

    # Timelines

    def _may_take_over(self, ssrc: int, now: float) -> bool:
        """A new SSRC is followed once the old one is quiet, or was not heard for a few packets of the new one."""
        return self._ssrc is None or now - self._last_arrival >= _SILENCE_AFTER_S or self._is_restarted(ssrc)

    def _is_restarted(self, ssrc: int) -> bool:
        """Counts a packet that is not of our timeline; several in a row are a sender that began anew."""
        if ssrc != self._stranger_ssrc:
            self._stranger_ssrc, self._strangers = ssrc, 0
        self._strangers += 1
        return self._strangers >= _RESTART_PACKETS

    def _is_back(self, ahead: int, rtp_timestamp: int, now: float) -> bool:
        """After an outage: many packets are missing, and about as much RTP time as real time."""
        elapsed = timestamp_difference(rtp_timestamp, self._last_timestamp)
        off = abs(elapsed - (now - self._last_arrival) * CLOCK_HZ)
        return off <= _MAX_GAP // 2 and ahead * _CONCEAL_STEP <= elapsed

    def _too_late(self) -> bytes:
        self.stats.packets += 1
        self.stats.late += 1
        return b""

    def _anchor(self, ssrc: int, sequence: int, rtp_timestamp: int, now: float) -> None:
        if self._ssrc is not None:
            self.stats.discontinuities += 1
        self._ssrc = ssrc
        self._held.clear()
        self._base = sequence, self._passed(), self.stats.packets
        self._next_sequence = sequence
        self._next_timestamp = rtp_timestamp
        self._last_arrival, self._last_timestamp = now, rtp_timestamp
        self._transit = int(now * CLOCK_HZ) - rtp_timestamp

    def _measure_jitter(self, rtp_timestamp: int, now: float) -> None:
        transit = int(now * CLOCK_HZ) - rtp_timestamp
        deviation = abs(timestamp_difference(transit & MAX_UINT32, self._transit & MAX_UINT32))
        self._transit = transit
        if deviation < CLOCK_HZ:  # a new timeline is no jitter
            self._jitter += (deviation - self._jitter) / 16
            self.stats.jitter_ms = self._jitter * 1000 / CLOCK_HZ


def _is_quiet(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2")
    return -_QUIET < int(samples.min()) and int(samples.max()) < _QUIET
