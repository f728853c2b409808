"""A peer's sound: SRTP packets become sound for the leg's owner, sound for the peer becomes SRTP packets.

Packets are decrypted and decoded without a queue or a task, those of one burst step by step (``bridge.burst``).
Whatever fails in there, ours or the peer's, ends at most this call. RTCP reports on both ways; a packet that the peer
asks for again is sent as it was (RFC 4585).
"""

import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from bridge.burst import Burst
from bridge.media.contracts import LegOwner
from bridge.media.extensions import AUDIO_LEVEL_URI, MID_URI, HeaderExtensions
from bridge.media.history import SentPackets
from bridge.media.inbound import InboundAudio
from bridge.media.opus import MAX_BITRATE, new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.passing import PacketReader, PassedPacket, PassedPacketTaker
from bridge.media.playback import Part
from bridge.media.reports import Reports
from bridge.webrtc.ice import IceAgent, PacketKind
from bridge.webrtc.sdp import CNAME, Offer
from bridge.webrtc.srtp import SrtpError, SrtpKeys
from bridge.webrtc.streams import InboundStreams
from bridge.wire.audio import SESSION_HZ

__all__ = ["RtpSession"]

_RTP = PacketKind.RTP


class RtpSession:
    """One peer's RTP session (RFC 3550), a ``PassingLeg``. It is open between ``open`` and ``close``.

    ``faults`` counts what was refused. ``on_failure`` gets what the packet's handling, or the owner's, has raised.
    While ``burst`` is open, packets are sent at its end.
    """

    def __init__(
        self,
        ice: IceAgent,
        owner: LegOwner,
        *,
        inbound_opus: int,
        outbound_opus: int,
        queue_limit_s: int,
        is_microphone: bool,
        is_publisher: bool,
        faults: Counter[str],
        on_failure: Callable[[Exception], None],
        burst: Burst | None = None,
    ) -> None:
        self.inbound = InboundAudio(new_decoder(SESSION_HZ), payload_type=inbound_opus, rate_hz=SESSION_HZ)
        self.outbound = OutboundAudio(
            new_encoder(SESSION_HZ),
            rate_hz=SESSION_HZ,
            payload_type=outbound_opus,
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(15),
            rtp_timestamp=secrets.randbits(32),
            limit_s=queue_limit_s,
            is_microphone=is_microphone,
        )
        self.reports = Reports(self.inbound, self.outbound, cname=CNAME)
        self.streams = InboundStreams(self.inbound, faults)
        self.doubles = 0
        """The number of packets that came twice, or after 128 others: SRTP takes neither."""
        self.hears = False
        """Whether the peer wants to hear."""
        self.is_publisher = is_publisher
        """Whether the peer hears nothing and others do: its answers are then played in real time all the same."""
        self._has_audio = False
        self._sent: SentPackets | None = None
        self._keys: SrtpKeys | None = None
        self._ice = ice
        self._owner = owner
        self._faults = faults
        self._on_failure = on_failure
        self._burst = burst or Burst()
        ice.attach(self)

    def negotiate(self, remote: Offer) -> None:
        """Takes what the remote description says of sound; it may change in mid-call."""
        self.hears = remote.receives_audio
        self._has_audio = remote.audio is not None
        self.inbound.red_payload_type = remote.inbound.red if remote.inbound is not None else None
        if remote.inbound is not None:
            self.inbound.payload_type = remote.inbound.opus
        wanted = remote.outbound
        if wanted is None:
            return
        self.outbound.payload_type = wanted.opus
        extensions = wanted.extensions
        self.outbound.negotiate(
            extensions=HeaderExtensions(
                mid=wanted.mid, mid_id=extensions.get(MID_URI), level_id=extensions.get(AUDIO_LEVEL_URI)
            ),
            uses_dtx=wanted.opus_parameters.get("usedtx") == "1",
            bitrate=min(MAX_BITRATE, wanted.max_bitrate or MAX_BITRATE),
            red=wanted.red,
        )
        if wanted.asks_again and self._sent is None:
            self._sent = SentPackets()

    def open(self, keys: SrtpKeys) -> None:
        """Takes the keys that DTLS has agreed on: from now on sound can flow."""
        self._keys = keys

    def close(self, now: float) -> None:
        """Sends the last packet of the stream; may be called twice, and also if it was never open."""
        keys, self._keys = self._keys, None
        if keys is not None and self._has_audio:
            with suppress(Exception):  # whatever keeps it from being said, the call is over
                self._ice.send_datagram(keys.protect_rtcp(self.reports.leave(now)))

    @property
    def resent(self) -> int:
        """The number of packets that the peer has asked for again, and got."""
        return self._sent.resent if self._sent is not None else 0

    # The socket's side

    def receive_srtp(self, kind: PacketKind, datagram: bytes, now: float) -> bool:
        """Takes one SRTP or SRTCP packet, in the datagram callback; returns whether it is the peer's own."""
        if kind is not _RTP:
            return self._receive_srtcp(datagram, now)
        packet = self.decrypt(datagram, now)
        if packet is None:
            return False
        sound = self.decode(packet, now)
        if sound:
            self.deliver(sound)
        return True

    def decrypt(self, datagram: bytes, now: float) -> bytes | None:
        """The first step of the hot path: returns the RTP packet, or None if it is not the peer's own."""
        keys = self._keys
        if keys is None:
            self._faults["media_before_keys"] += 1
            return None
        try:
            ssrc = datagram[8:12]
            heard_at = self.streams.heard_at
            if ssrc in heard_at:
                packet = keys.unprotect(datagram)
                heard_at[ssrc] = now
            elif self.streams.may_come(ssrc, now):
                packet = keys.unprotect(datagram)
                self._admit(ssrc, keys, now)
            else:
                return None
        except SrtpError as error:
            self._refuse(error)
            return None
        except Exception as error:
            self._on_failure(error)
            return None
        self._ice.last_authenticated = now
        return packet

    def decode(self, packet: bytes, now: float) -> bytes:
        """The second step: returns the sound that became due by an RTP packet; none while nobody needs it."""
        inbound = self.inbound
        try:
            sound = inbound.receive_rtp(packet, now)
        except Exception as error:
            self._on_failure(error)
            return b""
        return b"" if inbound.is_mute else sound

    def deliver(self, sound: bytes) -> None:
        """The third step: gives the sound to the owner."""
        try:
            self._owner.receive_leg_audio(sound)
        except Exception as error:
            self._on_failure(error)

    def _receive_srtcp(self, datagram: bytes, now: float) -> bool:
        keys = self._keys
        if keys is None:
            self._faults["media_before_keys"] += 1
            return False
        try:
            ssrc = datagram[4:8]
            is_new = ssrc not in self.streams.heard_at
            if is_new and not self.streams.may_come(ssrc, now):
                return False
            packet = keys.unprotect_rtcp(datagram)
            if is_new:
                self._admit(ssrc, keys, now)
            else:
                self.streams.heard_at[ssrc] = now
            self._ice.last_authenticated = now
            self._take_report(packet, now)
        except SrtpError as error:
            self._refuse(error)
            return False
        except Exception as error:
            self._on_failure(error)
        return True

    def _refuse(self, error: SrtpError) -> None:
        if "replay" in str(error):
            self.doubles += 1
        else:
            self._faults["srtp_rejected"] += 1

    def _admit(self, ssrc: bytes, keys: SrtpKeys, now: float) -> None:
        evicted = self.streams.admit(ssrc, now)
        if evicted is not None:
            keys.forget_stream(int.from_bytes(evicted))
            self._ice.release(evicted)
        self._ice.claim(ssrc)

    def _take_report(self, packet: bytes, now: float) -> None:
        """Takes the peer's RTCP; a packet that it asks for again is sent as it was."""
        missing = self.reports.receive_rtcp(packet, now)
        if missing and self._sent is not None:
            round_trip_s = (self.reports.round_trip_ms or 0.0) / 1000
            for datagram in self._sent.again(missing, now, round_trip_s=round_trip_s):
                self._ice.send_datagram(datagram)

    # The clock's side

    def tick(self, now: float) -> None:
        """Sends the packet that is due, and lets waiting sound become due; called every 20 ms."""
        if self._keys is None:
            return
        try:
            pcm = self.inbound.poll(now)
            if pcm and not self.inbound.is_mute:
                self._owner.receive_leg_audio(pcm)
            outbound = self.outbound
            if outbound.is_idle or not self.hears:
                if self.is_publisher:
                    self._pass_time()
                else:
                    outbound.skip(1)
                return
            sequence = outbound.next_sequence
            packet, events = outbound.tick()
            if packet is not None:
                self._send(sequence, packet)
            for event in events:
                self._owner.played(event)
        except Exception as error:
            self._on_failure(error)

    def _pass_time(self) -> None:
        for event in self.outbound.pass_time():
            self._owner.played(event)

    def report(self, now: float) -> None:
        """Sends the RTCP report that is due, if there is any sound to report on; called every 100 ms."""
        keys = self._keys
        if keys is None or not self._has_audio:
            return
        try:
            report = self.reports.due(now)
            if report is not None:
                self._ice.send_datagram(keys.protect_rtcp(report))
        except Exception as error:
            self._on_failure(error)

    def _send(self, sequence: int, packet: bytes) -> None:
        """Sends an RTP packet, at once or at the end of the burst."""
        if self._burst.is_open:
            self._burst.add_packet(self, sequence, packet)
            return
        datagram = self.encrypt(packet)
        if datagram is not None:
            self.send(sequence, datagram)

    def encrypt(self, packet: bytes) -> bytes | None:
        """Returns the SRTP packet; None if the session is closed."""
        keys = self._keys
        if keys is None:
            return None
        try:
            return keys.protect(packet)
        except Exception as error:
            self._on_failure(error)
            return None

    def send(self, sequence: int, datagram: bytes) -> None:
        """Sends an SRTP packet, and keeps it if the peer may ask for it again."""
        try:
            self._ice.send_datagram(datagram)
        except Exception as error:
            self._on_failure(error)
        if self._sent is not None:
            self._sent.keep(sequence, datagram)

    # Opus that is passed on

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """From now on gives the peer's packets to ``taker``; its sound is reported only with ``decodes``."""
        self.inbound.pass_to(taker, decodes=decodes)

    def read_packets(self, reader: PacketReader | None) -> None:
        """From now on gives the peer's packets to ``reader`` as well, in order, and before they are decoded."""
        self.inbound.reader = reader

    def forward(self, part: Part | None, passed: PassedPacket) -> bool:
        """Sends another peer's packet, and tells the ledger of an answer's ``part``. False if it cannot be sent."""
        if self._keys is None or not self.hears:
            return False
        sequence, packet = self.outbound.forward(passed)
        self._send(sequence, packet)
        if part is not None:
            for event in self.outbound.heard(part, passed):
                self._owner.played(event)
        return True
