"""From RTP packets to sound: reorder, recover, conceal, and keep the time of the sound equal to RTP time.

A machine is listening, so there is no playout delay: a packet that comes in order is decoded on arrival. Only behind a
gap do packets wait, as long as the measured jitter makes it likely that the missing one still comes (20 to 120 ms).
What does not come is recovered from the next packet's in-band FEC or concealed. A packet with redundancy (RFC 2198)
fills the gap before it at once. If the sender is silent on purpose (DTX, a muted track) the same length of silence goes
out in real time, so that whoever measures pauses can. If the sound breaks off in the middle, the network may only have
stopped for a moment: that silence begins later. Silence that late sound proves wrong is made up for in the next pause.

    in order ──────────────────────────────▶ decode
    ahead ──▶ held ──(gap filled)──────────▶ decode
                   └─(waited long enough)──▶ conceal, recover, decode
    nothing for a while ───────────────────▶ silence
"""

import math
from dataclasses import dataclass

import numpy as np

from bridge.errors import MediaError
from bridge.media.noise import NoiseFloor
from bridge.media.opus import FRAME_TICKS, Decoder
from bridge.media.passing import MuteDecoder, PacketReader, PassedPacket, PassedPacketTaker
from bridge.media.red import Redundancy, parse_red
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32, parse_rtp, timestamp_difference
from bridge.media.sender_time import SenderTime

__all__ = ["InboundAudio", "InboundStats", "Reception"]

_MIN_WAIT_S, _MAX_WAIT_S = 0.020, 0.120
_JITTER_FACTOR = 3  # three mean deviations cover what is likely to come at all
_MAX_HELD = 64  # packets behind a gap; 1.28 s of 20 ms frames
_RESTART_PACKETS = 3  # so many in a row from far away are a restarted sender, fewer are strays
_SILENCE_AFTER_S = 0.200  # no packet for so long: the sender is silent on purpose
_BROKEN_OFF_S = 0.600  # the same, if the sound broke off: Wi-Fi often holds packets back for half a second
_SILENCE_MARGIN_S = 0.080  # silence keeps so far behind real time, so that late speech still fits
_MAX_GAP = CLOCK_HZ  # one second; RTP time that jumps further is a new timeline
_MAX_AHEAD = CLOCK_HZ // 2  # gaps may be filled so far ahead of real time
_JITTER = CLOCK_HZ * 120 // 1000  # by so much real time may be unsure of how long a pause was
_LATE_S = 0.050  # after silence that was too much, the packets that were held back have come
_MOST_LEFT_OUT = CLOCK_HZ * 140 // 1000  # of any pause later on: a turn ends no more than 200 ms later for it
_DEBT_FORGOTTEN_S = 10.0
_BURST = 6 * CLOCK_HZ  # of sound at once, held back by some network, and twice real time: no microphone is faster
_BUDGET_RATE = 2
_MAX_CONCEAL = CLOCK_HZ // 10  # concealment has faded after 100 ms; silence from there on
_FRAME = CLOCK_HZ // 50
_DTX_BYTES = 2  # libopus: a packet of up to two bytes says that silence follows
_SAMPLED = 0x1F  # one packet in 32 tells how loud the line is, and how late
_CONCEAL_STEP = CLOCK_HZ // 400  # libopus conceals in multiples of 2.5 ms


@dataclass(slots=True)
class InboundStats:
    """What became of a peer's packets: counters since the start, times in milliseconds."""

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
    too_fast: int = 0
    """Packets dropped because their sound came faster than twice real time."""
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
    """The highest sequence number, counted on over each wrap."""
    expected: int
    packets: int
    jitter: float
    """The interarrival jitter, in clock ticks."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A packet that waits behind a gap, or a copy of one that another packet brought along."""

    rtp_timestamp: int
    payload: bytes
    arrival: float
    is_copy: bool = False


class InboundAudio:
    """One peer's microphone: ``receive_rtp`` and ``poll`` give PCM16 mono at ``rate_hz`` as it becomes due."""

    def __init__(self, decoder: Decoder, *, payload_type: int, rate_hz: int) -> None:
        self.stats = InboundStats()
        self.red_payload_type: int | None = None
        """The payload type of redundant audio; None if it was not negotiated."""
        self.payload_type = payload_type
        """The payload type of Opus; 0 if the peer sends no sound, or not yet."""
        self.taker: PassedPacketTaker | None = None
        """Gets every packet as it comes, whatever becomes of it here."""
        self.reader: PacketReader | None = None
        """Gets every packet in its turn, before it is decoded; those that are lost are left out."""
        self.is_mute = False
        """True while what comes out is silence that nobody needs, because packets are passed on."""
        self._decoder = self._ears = decoder
        self._mute = MuteDecoder(rate_hz)
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
        self._clock = SenderTime()
        self._floor = NoiseFloor()
        self._sounded = 0  # clock ticks of all sound that was given, silence included
        self._budget = _BURST  # up to which so much sound the decoder may have worked
        self._budget_at = 0.0
        self._last_payload = b""
        self._last_pcm = b"\0\0"
        self._fell_silent = False  # since the last packet that was decoded
        self._guessed = 0  # clock ticks, since then
        self._late_at = 0.0  # when a packet came last that was late by a frame, against the one before it
        self._made = 0  # clock ticks of silence since the last packet that was taken
        self._debt = 0  # of these, what the sender knows nothing of: too much, if its sound was only late
        self._debt_at = 0.0
        self._left_out = 0  # of the present pause

    def receive_rtp(self, packet: bytes, now: float) -> bytes:
        """Takes one decrypted RTP packet; returns the sound that became due, often 20 ms, perhaps none."""
        header = parse_rtp(packet)
        if header is None:
            self.stats.malformed += 1
            return b""
        if self._sounded > self._budget and not self._may_go_on(now):
            self.stats.too_fast += 1
            self._last_arrival = now  # it is not silent
            return b""
        payload_type, sequence, rtp_timestamp, ssrc, start, end = header
        copies: Redundancy | None = None
        if payload_type != self.payload_type:
            if payload_type != self.red_payload_type:
                self.stats.foreign += 1
                return b""
            parsed = parse_red(packet, start, end, payload_type=self.payload_type)
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
            taker = self.taker
            if taker is not None and not taker(PassedPacket(payload, ssrc, sequence, rtp_timestamp, packet[1] >= 0x80)):
                self.pass_to(None, decodes=True)
        if ahead == 0:
            pcm = self._take(sequence, rtp_timestamp, payload, now)
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
        """Returns what becomes due by time alone: sound behind a gap that was waited for, or silence."""
        if self._held:
            return self._drain(now)
        if self._ssrc is None or now - self._last_arrival < _SILENCE_AFTER_S:
            return b""
        return self._silence(now)

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """Passes packets to ``taker`` as well. Without ``decodes`` silence comes out here, at no cost."""
        self.taker = taker
        self.is_mute = not decodes
        self._decoder = self._ears if decodes else self._mute

    @property
    def ssrc(self) -> int | None:
        """The SSRC of the stream that is heard; None before the first packet."""
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
        """How many sequence numbers are done: packets that were decoded in their turn, and lost ones."""
        stats = self.stats
        waiting = sum(not held.is_copy for held in self._held.values())
        return stats.packets - stats.late - waiting + stats.lost

    @property
    def wait_s(self) -> float:
        """How long a gap is waited for at present, in seconds: the delay that a loss costs."""
        return min(_MAX_WAIT_S, max(_MIN_WAIT_S, _MIN_WAIT_S + _JITTER_FACTOR * self._jitter / CLOCK_HZ))

    # In order

    def _take(self, sequence: int, rtp_timestamp: int, payload: bytes, now: float) -> bytes:
        """Decodes the packet that is next; time that has passed before it becomes silence."""
        self._next_sequence = (sequence + 1) & 0xFFFF
        if not payload:
            return b""  # padding only; its time shows as a gap before the next packet
        if self.reader is not None and self._ssrc is not None:
            self.reader(PassedPacket(payload, self._ssrc, sequence, rtp_timestamp, False))
        quiet = b""
        if rtp_timestamp != self._next_timestamp or self._made:
            quiet = self._quiet(self._missing(sequence, rtp_timestamp, now))
            self._next_timestamp = rtp_timestamp
        if not sequence & _SAMPLED:
            self._clock.settle(now, self._sounded, forgets=not self._debt)
            if not self.is_mute:
                self._floor.observe(self._last_pcm)
        pcm = self._decode(payload, now)
        return quiet + pcm if quiet else pcm

    def _decode(self, payload: bytes, now: float) -> bytes:
        try:
            pcm = self._decoder.decode(payload)
        except MediaError:
            self.stats.malformed += 1
            return b""  # its time shows as a gap before the next packet
        self._fell_silent = False
        self._guessed = 0
        self._last_pcm, self._last_payload = pcm, payload
        ticks = len(pcm) // 2 * self._ticks_per_sample
        claimed = ticks if self._clock.step is None else self._clock.claim(ticks)
        self._next_timestamp = (self._next_timestamp + claimed) & MAX_UINT32
        if self._debt and self._makes_up(pcm, ticks, now):
            return b""
        self._sounded += ticks
        self.stats.decoded_ms += ticks * 1000 // CLOCK_HZ
        return pcm

    def _missing(self, sequence: int, rtp_timestamp: int, now: float) -> int:
        """How much time passed before a packet that is in order, because of DTX or a muted track."""
        gap = timestamp_difference(rtp_timestamp, self._next_timestamp)
        behind = self._clock.behind(now, self._sounded)
        if not self._made:
            sound = self._last_ticks()
            self._clock.learn(gap + self._clock.claim(sound), sound, sequence, behind)
        return self._due(self._clock.span(gap), behind, now)

    def _due(self, claimed: int, behind: int, now: float, *, lost: int = 0) -> int:
        """How much sound is missing if the sender claims that so much time passed, ``lost`` of it in lost packets.

        Real time has to bear out whatever goes beyond the lost packets.
        """
        made, self._made = self._made, 0
        if made > max(0, claimed) + _JITTER:  # its clock did not count the pause, or the sound was only late
            rest = min(max(0, behind), _JITTER)
            self._owe(made + rest - max(0, claimed), now)
            return rest
        missing = claimed - made
        if missing <= 0:
            self._owe(-missing if made else 0, now)
            self.stats.discontinuities += claimed < -_MAX_GAP
            return 0
        sure = min(missing, lost)
        pause, real = missing - sure, behind - sure
        borne_out = min(pause, real + _JITTER) if 2 * real >= pause else max(0, min(pause, real))
        self.stats.discontinuities += pause - borne_out > _MAX_GAP
        return max(0, min(sure + borne_out, behind + _MAX_AHEAD))

    def _last_ticks(self) -> int:
        """How long the last packet plays, in clock ticks."""
        return len(self._last_pcm) // 2 * self._ticks_per_sample

    # Silence too much

    def _owe(self, ticks: int, now: float) -> None:
        """Notes that silence was given which the sender does not know of.

        If its sound was late, the next silence is shorter.
        """
        if ticks > _MAX_GAP:
            self.stats.discontinuities += 1
        elif ticks:
            self._debt, self._debt_at = min(_MAX_GAP, self._debt + ticks), now

    def _owed(self, now: float) -> int:
        """So much of it has been proved wrong, the sound being ahead of real time, and may be left out now."""
        since = now - self._debt_at
        if since > _DEBT_FORGOTTEN_S:
            self._debt = 0
        owed = min(self._debt, max(0, -self._clock.behind(now, self._sounded)))
        return owed if since < _LATE_S else min(owed, _MOST_LEFT_OUT - self._left_out)

    def _leave_out(self, ticks: int, now: float) -> None:
        self._debt = max(0, self._debt - ticks)
        if now - self._debt_at >= _LATE_S:
            self._left_out += ticks

    def _makes_up(self, pcm: bytes, ticks: int, now: float) -> bool:
        """Whether a frame is left out for silence that was given before: one that is silence as well."""
        if not self._floor.is_quiet(pcm):
            self._left_out = 0
            return False
        if self._owed(now) < ticks * 3 // 4:
            return False
        self._leave_out(ticks, now)
        return True

    # No faster than real time

    def _may_go_on(self, now: float) -> bool:
        """Whether the decoder may work again, when it has done so for longer than the sound can have taken."""
        earned = int((now - self._budget_at) * _BUDGET_RATE * CLOCK_HZ)
        self._budget = min(self._budget + earned, self._sounded + _BURST)
        self._budget_at = now
        return self._sounded <= self._budget

    # Behind a gap

    def _drain(self, now: float) -> bytes:
        """Decodes what was held and is now next; gives up on gaps that were waited for long enough."""
        pieces = []
        while self._held:
            if self._sounded > self._budget and not self._may_go_on(now):
                dropped = sum(not held.is_copy for held in self._held.values())
                self.stats.too_fast += dropped
                self.stats.late += dropped
                self._held.clear()
                break
            held = self._held.pop(self._next_sequence, None)
            if held is not None:
                if held.is_copy:
                    self.stats.lost += 1
                    self.stats.recovered += 1
                pieces.append(self._take(self._next_sequence, held.rtp_timestamp, held.payload, now))
                continue
            first = min(self._held, key=lambda held: (held - self._next_sequence) & 0xFFFF)
            missing = (first - self._next_sequence) & 0xFFFF
            overdue = self._overdue(missing, self._held[first], now)
            if not overdue:
                break
            pieces.append(self._give_up(overdue, missing, self._held[first], now))
        return b"".join(pieces)

    def _overdue(self, missing: int, first: _Held, now: float) -> int:
        """How many of the ``missing`` packets before the ``first`` held one were waited for long enough.

        The wait for each of them begins when the packet behind it was due. So of many that are lost in a row, only
        those that were due within the wait are still waited for when the next packet comes. Where the network has held
        packets back, or silence was given in their place, nobody knows when they were due, and all are waited for.
        """
        rest_s = self.wait_s - (now - min(held.arrival for held in self._held.values()))
        if rest_s <= 0:
            return missing
        if self._made or self._debt or now - self._late_at < _SILENCE_AFTER_S:
            return 0
        span = self._clock.span(timestamp_difference(first.rtp_timestamp, self._next_timestamp))
        if not 0 < span <= missing * self._last_ticks():  # of a pause between them nobody knows where it was
            return 0
        return max(0, missing - math.ceil(rest_s * CLOCK_HZ * missing / span))

    def _give_up(self, lost: int, missing: int, first: _Held, now: float) -> bytes:
        """Returns sound for the oldest ``lost`` of the packets that are ``missing`` before the ``first`` held one."""
        passed = timestamp_difference(first.rtp_timestamp, self._next_timestamp) * lost // missing
        claimed = self._clock.span(passed)
        self.stats.lost += lost
        self._next_sequence = (self._next_sequence + lost) & 0xFFFF
        self._next_timestamp = (self._next_timestamp + passed) & MAX_UINT32
        usual = lost * (self._last_ticks() or _FRAME)
        behind = self._clock.behind(now, self._sounded)
        gap = self._due(claimed if claimed > 0 else usual, behind, now, lost=usual)
        return self._conceal(gap, first.payload, goes_on=lost < missing) if gap else b""

    def _hold_copies(self, copies: Redundancy, sequence: int, rtp_timestamp: int, now: float) -> None:
        """Puts what a packet says of those before it in their places, if they are missing."""
        for back, (offset, payload) in enumerate(reversed(copies), 1):
            place = (sequence - back) & 0xFFFF
            if (place - self._next_sequence) & 0xFFFF >= _MAX_HELD:
                break  # already passed
            if payload and place not in self._held:
                self._held[place] = _Held((rtp_timestamp - offset) & MAX_UINT32, payload, now, is_copy=True)

    def _conceal(self, gap: int, payload: bytes, *, goes_on: bool) -> bytes:
        """Sound for ``gap`` clock ticks of lost packets: the last frame from ``payload``'s FEC, the rest guessed.

        If the gap ``goes_on`` after this part of it, all of the part is guessed. Guesses fade out within 100 ms; what
        is longer, or no multiple of 2.5 ms, is silence. In silence nothing is guessed: the sound before it would come
        back.
        """
        audible = gap - gap % _CONCEAL_STEP
        recovered = 0
        if payload and not goes_on and self._decoder.has_fec(payload):
            recovered = min(audible, FRAME_TICKS[payload[0] >> 3])
        guessed = 0 if self._fell_silent else min(audible - recovered, _MAX_CONCEAL - self._guessed)
        self._guessed += guessed
        silent = gap - guessed - recovered
        fades = silent >= _CONCEAL_STEP or (goes_on and self._guessed >= _MAX_CONCEAL)
        pieces = [self._guess(guessed, fades=fades), self._quiet(silent)]
        self._fell_silent |= fades
        if recovered:
            pieces.append(self._recover(payload, recovered // self._ticks_per_sample))
        self.stats.concealed_ms += (guessed + recovered) * 1000 // CLOCK_HZ
        self._sounded += guessed + recovered
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
        """Returns as much silence as real time has passed since the last packet, less a margin.

        Speech fades into it.
        """
        passed = now - self._last_arrival
        if not self._fell_silent and passed < _BROKEN_OFF_S and self._broke_off():
            return b""
        since = self._clock.span(timestamp_difference(self._next_timestamp, self._last_timestamp))
        due = int((passed - _SILENCE_MARGIN_S) * CLOCK_HZ) - min(max(0, since), _MAX_GAP) - self._made
        if due < _FRAME:
            return b""
        due -= due % _FRAME
        self._made += due
        if self._debt:
            owed = min(due, self._owed(now))
            owed -= owed % _FRAME
            self._leave_out(owed, now)
            due -= owed
        fading = 0
        if not self._fell_silent and not self._floor.is_quiet(self._last_pcm):
            fading = min(due, _MAX_CONCEAL)
            self.stats.concealed_ms += fading * 1000 // CLOCK_HZ
            self._sounded += fading
        self._fell_silent = True
        return self._guess(fading, fades=True) + self._quiet(due - fading)

    def _broke_off(self) -> bool:
        """Whether the last packet was neither silence nor an announcement of silence (DTX)."""
        return len(self._last_payload) > _DTX_BYTES and not self._floor.is_quiet(self._last_pcm)

    def _quiet(self, ticks: int) -> bytes:
        self.stats.silence_ms += ticks * 1000 // CLOCK_HZ
        self._sounded += ticks
        return bytes(2 * (ticks // self._ticks_per_sample))

    # Timelines

    def _may_take_over(self, ssrc: int, now: float) -> bool:
        """Whether a new SSRC may be followed: the old one is quiet, or a few packets of the new one have come since."""
        return self._ssrc is None or now - self._last_arrival >= _SILENCE_AFTER_S or self._is_restarted(ssrc)

    def _is_restarted(self, ssrc: int) -> bool:
        """Counts a packet that is not of our timeline; several in a row are a sender that began anew."""
        if ssrc != self._stranger_ssrc:
            self._stranger_ssrc, self._strangers = ssrc, 0
        self._strangers += 1
        return self._strangers >= _RESTART_PACKETS

    def _is_back(self, ahead: int, rtp_timestamp: int, now: float) -> bool:
        """Whether an outage is over: many packets are missing, and about as much RTP time as real time has passed."""
        elapsed = self._clock.span(timestamp_difference(rtp_timestamp, self._last_timestamp))
        off = abs(elapsed - (now - self._last_arrival) * CLOCK_HZ)
        return off <= _MAX_GAP // 2 and ahead * _CONCEAL_STEP <= elapsed

    def _too_late(self) -> bytes:
        self.stats.packets += 1
        self.stats.late += 1
        return b""

    def _anchor(self, ssrc: int, sequence: int, rtp_timestamp: int, now: float) -> None:
        if self._ssrc is None:
            self._budget_at = now
        else:
            self.stats.discontinuities += 1
        self._ssrc = ssrc
        self._held.clear()
        self._base = sequence, self._passed(), self.stats.packets
        self._next_sequence = sequence
        self._next_timestamp = rtp_timestamp
        self._clock.restart(now, self._sounded)
        self._made = self._debt = 0
        self._last_arrival, self._last_timestamp = now, rtp_timestamp
        self._transit = int(now * CLOCK_HZ) - rtp_timestamp

    def _measure_jitter(self, rtp_timestamp: int, now: float) -> None:
        transit = int(now * CLOCK_HZ) - rtp_timestamp
        deviation = timestamp_difference(transit, self._transit)
        if self._clock.step is not None:  # at the sender's own rate
            claimed = timestamp_difference(rtp_timestamp, self._last_timestamp)
            deviation += claimed - self._clock.span(claimed)
        self._transit = transit
        if deviation > _FRAME:
            self._late_at = now
        deviation = abs(deviation)
        if deviation < CLOCK_HZ:  # a new timeline is no jitter
            self._jitter += (deviation - self._jitter) / 16
            self.stats.jitter_ms = self._jitter * 1000 / CLOCK_HZ
