"""One WebRTC peer: its datagrams become sound and events for its owner, the owner's sound and events become datagrams.

    new ──first check──▶ handshaking ──DTLS──▶ connected ──┬─ hang_up, DTLS or channel closed, silence ─▶ closed
     └──────────────── not within connect_timeout_s ───────┘

SRTP is handled in the datagram callback itself. Whatever fails in there, ours or the peer's, ends at most this call.
"""

import asyncio
import secrets
from collections import Counter
from contextlib import suppress
from typing import Any

from aiortc import RTCCertificate, RTCDataChannel

from bridge.context import CallContext, logger_of
from bridge.errors import BadOffer, BridgeError, PeerError, PeerLost, PeerNotConnected
from bridge.media.contracts import LegOwner
from bridge.media.extensions import AUDIO_LEVEL_URI, MID_URI, HeaderExtensions
from bridge.media.history import SentPackets
from bridge.media.inbound import InboundAudio
from bridge.media.opus import MAX_BITRATE, new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.passing import PacketReader, PassedPacket, PassedPacketTaker
from bridge.media.playback import Heard, Part
from bridge.media.reports import Reports
from bridge.webrtc.channel import CHANNEL_LABEL, ChannelSink
from bridge.webrtc.dtls import SecureTransport, SrtpError
from bridge.webrtc.ice import IceAgent
from bridge.webrtc.sdp import CNAME, Fingerprint, Offer
from bridge.wire.audio import PCM16, SESSION_HZ, AudioFormat
from bridge.wire.stats import PeerStats

__all__ = ["Peer"]

_CONSENT_EXPIRES_S = 30.0  # RFC 7675 section 5.1
_MAX_SSRCS = 8  # an SRTP session keeps state for each; one sender needs one, and a few for restarts
_SILENT_S = 1.0
_MAX_RETIRED_SSRCS = 1024  # of one call: holds and transfers of a long day


class Peer:
    """A leg over WebRTC. ``run`` lives as long as the call and always reports its end to the owner."""

    def __init__(
        self,
        ice: IceAgent,
        certificate: RTCCertificate,
        owner: LegOwner,
        *,
        inbound_opus: int,
        outbound_opus: int,
        queue_limit_s: int,
        is_microphone: bool = False,
        context: CallContext | None = None,
    ) -> None:
        """``context`` is that of the call; a client's own peer has none."""
        self.ice = ice
        self._context = context
        self._log = logger_of("webrtc", context)
        self.faults: Counter[str] = Counter()
        self.doubles = 0
        """Packets that came twice, or behind 128 others: SRTP takes neither."""
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
        self._sent: SentPackets | None = None
        self._owner = owner
        self._secure = SecureTransport(
            self.ice,
            certificate,
            on_channel=self._on_channel,
            on_closed=lambda: self.hang_up("peer_closed"),
            on_abuse=lambda what: self.fail(PeerError(what, code="peer_misbehaved")),
            on_life=self._is_alive,
        )
        self._ssrcs: dict[bytes, float] = {}
        """Those for which SRTP keeps state in the order in which they came, and when each was heard."""
        self._retired: set[bytes] = set()
        """Those that had to make room. SRTP would take them for new ones, and a replay of theirs for sound."""
        self._unprotect: Any = None
        self._unprotect_rtcp: Any = None
        self._protect: Any = None
        self._protect_rtcp: Any = None
        self._is_connected = False
        self._channel: RTCDataChannel | None = None
        self.answer = ""
        """The last SDP answer that this peer was given."""
        self.answers = 0
        """How many, each other than the one before."""
        self.closed = asyncio.Event()
        self._closing = asyncio.Event()
        self._reason = ""
        self._error: BridgeError | None = None
        ice.attach(self._on_media)

    @property
    def fingerprint(self) -> Fingerprint:
        """Of our certificate, for offer or answer."""
        return self._secure.fingerprint

    def connect_to(self, remote: Offer, *, dtls_role: str, open_channel: str | None = None) -> None:
        """Whom ``run`` is going to meet, and as what: DTLS ``server`` or ``client``."""
        self.dtls_role = dtls_role
        self._open_channel = open_channel
        self._agree_on(remote)

    def continues(self, offer: Offer) -> bool:
        """The offer is this peer's own, of the same DTLS association: an ICE restart, or a repeat (RFC 8842)."""
        ours = self._remote
        return (
            not self._closing.is_set()
            and set(ours.fingerprints) == set(offer.fingerprints)
            and (ours.origin, ours.tls_id) == (offer.origin, offer.tls_id)
            and offer.setup in ("actpass", "active" if self.dtls_role == "server" else "passive")
        )

    def renegotiate(self, offer: Offer) -> None:
        """Takes over what the offer says anew of sound; raises ``BadOffer`` if it changes what cannot be changed."""
        ours = self._remote
        if (ours.application is None) is not (offer.application is None):
            raise BadOffer("A running call neither gets nor loses its data channel; make a new one.", param="m")
        for before, now in ((ours.inbound, offer.inbound), (ours.outbound, offer.outbound)):
            if now is not None and (before is None or before.opus != now.opus):
                raise BadOffer("A running call's Opus keeps its payload type (RFC 3264 section 8.3.2).", param="rtpmap")
        self._agree_on(offer)

    def _agree_on(self, remote: Offer) -> None:
        """What the remote description says of sound; may change in mid-call."""
        self._remote = remote
        self._hears = remote.receives_audio
        self.inbound.red_payload_type = remote.inbound.red if remote.inbound is not None else None
        wanted = remote.outbound
        if wanted is None:
            return
        extensions = wanted.extensions
        self.outbound.negotiate(
            extensions=HeaderExtensions(
                mid=wanted.mid, mid_id=extensions.get(MID_URI), level_id=extensions.get(AUDIO_LEVEL_URI)
            ),
            uses_dtx=wanted.opus_parameters.get("usedtx") == "1",
            bitrate=min(MAX_BITRATE, wanted.max_bitrate or MAX_BITRATE),
        )
        if wanted.asks_again and self._sent is None:
            self._sent = SentPackets()

    async def run(self, *, connect_timeout_s: float, close_deadline_s: float) -> None:
        """The peer's whole life, from ``connect_to`` on."""
        if self._context is not None:
            self._context.bind_task()
        try:
            try:
                async with asyncio.timeout(connect_timeout_s):
                    await self._connect()
            except TimeoutError:
                self.fail(PeerNotConnected(f"no peer connected within {connect_timeout_s:g} s"))
            await self._closing.wait()
        except ConnectionError:
            self.fail(PeerError("the transport closed while connecting"))
        except PeerError as error:
            self.fail(error)
        except Exception as error:
            self._handler_failed(error)
        finally:
            self._leave()
            await self._aclose(close_deadline_s)
            self.closed.set()
            try:
                self._owner.leg_closed(self._reason or "cancelled", self._error)
            except Exception as error:
                self._handler_failed(error)
            self.outbound.clear()  # minutes of an answer that nobody hears any more

    async def _connect(self) -> None:
        await self.ice.connected.wait()
        if self._closing.is_set():
            return
        await self._secure.start(self._remote, role=self.dtls_role, open_channel=self._open_channel)
        self._unprotect = self._secure.inbound_srtp.unprotect
        self._unprotect_rtcp = self._secure.inbound_srtp.unprotect_rtcp
        self._protect = self._secure.outbound_srtp.protect
        self._protect_rtcp = self._secure.outbound_srtp.protect_rtcp
        self._is_connected = True
        self._owner.leg_connected()

    def _leave(self) -> None:
        """The last packet of the stream; DTLS and SCTP say their goodbyes behind it."""
        was_connected, self._is_connected = self._is_connected, False
        if was_connected and self._remote.audio is not None:
            with suppress(Exception):  # whatever keeps it from being said, the call is over
                self.ice.send(self._protect_rtcp(self.reports.leave(asyncio.get_running_loop().time())))

    async def _aclose(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self._secure.aclose()
        except TimeoutError:
            self.faults["close_deadline"] += 1
        except Exception as error:
            self.faults[f"close_{type(error).__name__}"] += 1
        finally:
            self.ice.close()

    # Leg

    @property
    def input_format(self) -> AudioFormat:
        """What its Opus is decoded to."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """What its Opus is encoded from."""
        return PCM16

    def play(self, part: Part, pcm: bytes) -> bool:
        """Queues sound, at any speed, and says whether that was too much; a peer that takes no sound drops it."""
        return not self._hears or self.outbound.push(part, pcm)

    @property
    def waiting_bytes(self) -> int:
        """About how much memory that takes which is still to be heard."""
        return self.outbound.waiting_bytes

    def end(self, response_id: str) -> None:
        """No more sound of this response will come."""
        for event in (*self.outbound.end_heard(), *self.outbound.playback.end(response_id)):
            self._owner.played(event)

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Silence from the next packet on."""
        return self.outbound.clear()

    def mark(self, mark_id: str) -> bool:
        """Sets a mark behind all that is queued."""
        return self.outbound.playback.mark(mark_id)

    def hang_up(self, reason: str) -> None:
        """Begins to close."""
        if not self._reason:
            self._reason = reason
        self._closing.set()
        if not self._is_connected:
            self.ice.close()

    @property
    def failure(self) -> None:
        """Nothing: a peer may come for the events alone."""
        return None

    def stats(self) -> PeerStats:
        """Its packets, both ways, and what became of them."""
        stats, reports = self.inbound.stats, self.reports
        return PeerStats(
            packets=stats.packets,
            lost=stats.lost,
            late=stats.late,
            too_fast=stats.too_fast,
            doubles=self.doubles,
            recovered=stats.recovered,
            concealed_ms=stats.concealed_ms,
            silence_ms=stats.silence_ms,
            jitter_ms=round(stats.jitter_ms, 1),
            reorder_ms=round(1000 * self.inbound.wait_s),
            held=self.inbound.held,
            round_trip_ms=None if reports.round_trip_ms is None else round(reports.round_trip_ms, 1),
            sent=self.outbound.packets,
            passed_on=self.outbound.passed,
            resent=self._sent.resent if self._sent is not None else 0,
            remote_lost_percent=round(reports.remote_lost_percent, 1),
            remote_jitter_ms=round(reports.remote_jitter_ms, 1),
            queued_ms=self.outbound.playback.queued_ms,
            overflow_ms=self.outbound.overflow_ms,
            moves=self.ice.moves,
            datagrams_dropped=self.ice.dropped,
            faults=self.faults.total() + self._secure.faults.total() + stats.malformed + reports.malformed,
        )

    # Opus that is passed on

    @property
    def passage(self) -> "Peer":
        """Opus may pass here as it is."""
        return self

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        """The peer's packets go to ``taker``; its sound is reported only with ``decodes``."""
        self.inbound.pass_to(taker, decodes=decodes)

    def read_packets(self, reader: PacketReader | None) -> None:
        """The peer's packets go to ``reader`` as well, in order, and before they are decoded."""
        self.inbound.reader = reader

    def forward(self, part: Part | None, passed: PassedPacket) -> bool:
        """Sends another peer's packet; of an answer's ``part``, the ledger is told. False where it cannot be sent."""
        if not self._is_connected or not self._hears:
            return False
        sequence, packet = self.outbound.forward(passed)
        datagram = self._protect(packet)
        self.ice.send(datagram)
        if self._sent is not None:
            self._sent.keep(sequence, datagram)
        if part is not None:
            for event in self.outbound.heard(part, passed):
                self._owner.played(event)
        return True

    # The clock's side

    def tick(self, now: float) -> None:
        """Every 20 ms: sends the packet that is due, and lets waiting sound become due."""
        if not self._is_connected:
            return
        try:
            pcm = self.inbound.poll(now)
            if pcm and not self.inbound.is_mute:
                self._owner.receive_leg_audio(pcm)
            if self.outbound.is_idle or not self._hears:
                self.outbound.skip(1)
                return
            sequence = self.outbound.next_sequence
            packet, events = self.outbound.tick()
            if packet is not None:
                datagram = self._protect(packet)
                self.ice.send(datagram)
                if self._sent is not None:
                    self._sent.keep(sequence, datagram)
            for event in events:
                self._owner.played(event)
        except Exception as error:
            self._handler_failed(error)

    def report(self, now: float) -> None:
        """Every 100 ms: sends the RTCP report that is due, where there is any sound to report on."""
        if not self._is_connected or self._remote.audio is None:
            return
        try:
            report = self.reports.due(now)
            if report is not None:
                self.ice.send(self._protect_rtcp(report))
        except Exception as error:
            self._handler_failed(error)

    def watch(self, now: float, timeout_s: float) -> None:
        """Every second: asks for consent if that is due.

        A peer is lost of which nothing was heard for ``timeout_s``, or no consent for 30 s.
        """
        if not self._is_connected:
            return
        self.ice.keep_consent(now)
        heard, consent = self.ice.last_authenticated, self.ice.last_consent
        if heard is not None and now - heard > timeout_s:
            self.fail(PeerLost(f"nothing heard from the peer for {timeout_s:g} s"))
        elif consent is not None and now - consent > _CONSENT_EXPIRES_S:
            self.fail(PeerLost(f"the peer's consent to be sent to is older than {_CONSENT_EXPIRES_S:g} s"))

    # The socket's side

    def _on_media(self, kind: str, datagram: bytes, now: float) -> bool:
        """One SRTP or SRTCP packet, in the datagram callback: the hot path. Says whether it is the peer's own."""
        if not self._is_connected:
            self.faults["media_before_keys"] += 1
            return False
        try:
            is_rtp = kind == "rtp"
            ssrc = datagram[8:12] if is_rtp else datagram[4:8]
            is_new = ssrc not in self._ssrcs
            if is_new and not self._may_come(ssrc, now):
                return False
            packet = self._unprotect(datagram) if is_rtp else self._unprotect_rtcp(datagram)
            if is_new:
                self._admit(ssrc)
            self._ssrcs[ssrc] = now
            self.ice.last_authenticated = now
            if is_rtp:
                pcm = self.inbound.receive(packet, now)
                if pcm and not self.inbound.is_mute:
                    self._owner.receive_leg_audio(pcm)
            else:
                self._take_report(packet, now)
        except SrtpError as error:
            if "replay" in str(error):
                self.doubles += 1
            else:
                self.faults["srtp_rejected"] += 1
            return False
        except Exception as error:
            self._handler_failed(error)
        return True

    def _may_come(self, ssrc: bytes, now: float) -> bool:
        """Whether a stream that is not known yet may be one more.

        If another one has to make room for it, that one has been silent, or the last one that came was followed:
        who begins again and again is heard each time, who sends a packet of each stream has eight.
        """
        if ssrc in self._retired:
            self.faults["retired_ssrc"] += 1
            return False
        if len(self._ssrcs) < _MAX_SSRCS:
            return True
        is_followed = int.from_bytes(next(reversed(self._ssrcs))) == self.inbound.ssrc
        is_silent = now - self._ssrcs[self._oldest_ssrc()] >= _SILENT_S
        if len(self._retired) >= _MAX_RETIRED_SSRCS or not (is_followed or is_silent):
            self.faults["too_many_ssrcs"] += 1
            return False
        return True

    def _oldest_ssrc(self) -> bytes:
        """That of the stream which was silent for longest, and is not the one that is heard."""
        heard = self.inbound.ssrc
        return min((ssrc for ssrc in self._ssrcs if int.from_bytes(ssrc) != heard), key=self._ssrcs.__getitem__)

    def _admit(self, ssrc: bytes) -> None:
        """A new stream of the peer's; of too many, the one that was silent for longest makes room."""
        if len(self._ssrcs) >= _MAX_SSRCS:
            oldest = self._oldest_ssrc()
            del self._ssrcs[oldest]
            self._retired.add(oldest)
            self._secure.forget_stream(oldest)
            self.ice.release(oldest)
        self.ice.claim(ssrc)

    def _take_report(self, packet: bytes, now: float) -> None:
        """The peer's RTCP; what it asks for again is sent as it was."""
        missing = self.reports.receive(packet, now)
        if missing and self._sent is not None:
            round_trip_s = (self.reports.round_trip_ms or 0.0) / 1000
            for datagram in self._sent.again(missing, now, round_trip_s=round_trip_s):
                self.ice.send(datagram)

    def _is_alive(self) -> None:
        """DTLS has decrypted something, which only the peer can have sent."""
        self.ice.last_authenticated = asyncio.get_running_loop().time()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        """A data channel is open. The first one carries the events, whatever it is called, unless ``oai-events`` comes.

        A channel that opens late on the same stream is another one that takes its place.
        """
        before = self._channel
        is_replaced = before is not None and (before.negotiated and before.id == channel.id)
        wins = before is None or is_replaced or (channel.label == CHANNEL_LABEL != before.label)
        if not wins:
            self.faults["other_channel"] += 1
            return
        self._channel = channel
        channel.on("message", lambda data: self._on_message(channel, data))
        for name in ("closing", "close"):
            channel.on(name, lambda: self._on_channel_closed(channel))
        sink = ChannelSink(channel, self.hang_up, max_message_bytes=self._remote.max_message_bytes)
        try:
            self._owner.channel_opened(sink)
        except Exception as error:
            self._handler_failed(error)

    def _on_channel_closed(self, channel: RTCDataChannel) -> None:
        if channel is self._channel:
            self.hang_up("channel_closed")

    def _on_message(self, channel: RTCDataChannel, data: str | bytes) -> None:
        if channel is not self._channel:
            self.faults["other_channel"] += 1
            return
        try:
            self._owner.receive_leg_text(data if isinstance(data, str) else data.decode("utf-8", "replace"))
        except Exception as error:
            self._handler_failed(error)

    def _handler_failed(self, error: Exception) -> None:
        self.faults["handler_error"] += 1
        self._log.error("peer.handler_failed", exc_info=error)
        self.fail(PeerError(f"{type(error).__name__}: {error}", code="internal_error"))

    def fail(self, error: BridgeError) -> None:
        """Ends the call because of ``error``; the first one counts."""
        if self._error is None and not self._closing.is_set():
            self._error = error
        self.hang_up(error.code)
