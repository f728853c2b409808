"""One WebRTC peer, a leg: ICE, DTLS, sound and events of one call, from the offer to the end.

What it is made of: an ICE agent, ``SecureTransport`` (DTLS, SCTP), ``RtpSession`` (sound), ``EventChannel`` (events),
``Negotiation`` (SDP) and ``PeerLifetime`` (its state). Sound goes past this module: from the agent to the RTP session.
"""

import asyncio
from collections import Counter

from aiortc import RTCCertificate, RTCDataChannel

from bridge.burst import Burst
from bridge.context import CallContext, logger_of
from bridge.errors import BridgeError, PeerError, PeerLost, PeerNotConnected
from bridge.media.contracts import LegOwner
from bridge.media.playback import Heard, Part
from bridge.webrtc.channel import EventChannel
from bridge.webrtc.dtls import SecureTransport
from bridge.webrtc.ice import IceAgent
from bridge.webrtc.lifetime import PeerLifetime, PeerState
from bridge.webrtc.negotiation import Negotiation
from bridge.webrtc.rtp_session import RtpSession
from bridge.webrtc.sdp import AnswerParameters, DtlsRole, Fingerprint, Offer
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.stats import PeerStats

__all__ = ["Peer"]

_CONSENT_EXPIRES_S = 30.0  # RFC 7675 section 5.1


class Peer:
    """A leg over WebRTC. ``run`` lives as long as the call and always reports its end to the owner."""

    negotiation: Negotiation

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
        is_publisher: bool = False,
        context: CallContext | None = None,
        burst: Burst | None = None,
    ) -> None:
        """``context`` is that of the call; a client's own peer has none. While ``burst`` is open, packets wait for its
        end.

        If the peer ``is_publisher`` it hears nothing, but answers are played to it in real time all the same.
        """
        self.ice = ice
        self.faults: Counter[str] = Counter()
        """What was refused of the peer or went wrong with it, by reason."""
        self.lifetime = PeerLifetime(logger_of("webrtc", context))
        self.rtp = RtpSession(
            ice,
            owner,
            inbound_opus=inbound_opus,
            outbound_opus=outbound_opus,
            queue_limit_s=queue_limit_s,
            is_microphone=is_microphone,
            is_publisher=is_publisher,
            faults=self.faults,
            on_failure=self._handler_failed,
            burst=burst,
        )
        self._events = EventChannel(owner, faults=self.faults, hang_up=self.hang_up, on_failure=self._handler_failed)
        self._secure = SecureTransport(
            ice,
            certificate,
            faults=self.faults,
            on_channel=self._take_channel,
            on_closed=lambda: self.hang_up("peer_closed"),
            on_abuse=lambda what: self.fail(PeerError(what, code="peer_misbehaved")),
            on_life=self._is_alive,
        )
        self._owner = owner
        self._context = context
        self._log = logger_of("webrtc", context)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of our certificate, for offer or answer."""
        return self._secure.fingerprint

    def connect_to(self, remote: Offer, dtls_role: DtlsRole) -> None:
        """Sets which remote side ``run`` is going to meet, and in which DTLS role."""
        self.negotiation = Negotiation(remote, dtls_role)
        self.rtp.negotiate(remote)

    def continues(self, offer: Offer) -> bool:
        """Whether the offer is this peer's own, of the same DTLS association, and the peer is still there."""
        return not self.lifetime.is_ending and self.negotiation.continues(offer)

    def renegotiate(self, offer: Offer) -> None:
        """Takes what has changed in the offer about sound; raises ``BadOffer`` if it changes what cannot be changed."""
        self.negotiation.renew(offer)
        self.rtp.negotiate(offer)

    def answer(self, ours: AnswerParameters) -> str:
        """Returns the SDP answer to the last offer; the same as before if nothing in it has changed."""
        return self.negotiation.write_answer(ours)

    # Life

    async def run(self, *, connect_timeout_s: float, close_deadline_s: float, open_channel: str | None = None) -> None:
        """Runs the peer's whole life, from ``connect_to`` on.

        ``open_channel`` is the label of a data channel to open.
        """
        if self._context is not None:
            self._context.bind_task()
        life = self.lifetime
        try:
            try:
                async with asyncio.timeout(connect_timeout_s):
                    await self._connect(open_channel)
            except TimeoutError:
                self.fail(PeerNotConnected(f"no peer connected within {connect_timeout_s:g} s"))
            await life.closing.wait()
        except ConnectionError:
            self.fail(PeerError("the transport closed while connecting"))
        except PeerError as error:
            self.fail(error)
        except Exception as error:
            self._handler_failed(error)
        finally:
            life.end("cancelled")
            self.rtp.close(asyncio.get_running_loop().time())  # DTLS and SCTP say their goodbyes after it
            await self._aclose(close_deadline_s)
            life.become(PeerState.CLOSED)
            try:
                self._owner.leg_closed(life.reason, life.error)
            except Exception as error:
                self._handler_failed(error)
            self.rtp.outbound.clear()  # minutes of an answer that nobody hears any more

    async def _connect(self, open_channel: str | None) -> None:
        await self.ice.connected.wait()
        if self.lifetime.is_ending:
            return
        self.lifetime.become(PeerState.HANDSHAKING)
        negotiation = self.negotiation
        await self._secure.start(negotiation.remote, role=negotiation.dtls_role, open_channel=open_channel)
        if self.lifetime.is_ending:
            return
        self.lifetime.become(PeerState.CONNECTED)
        self.rtp.open(self._secure.srtp_keys())
        self._owner.leg_connected()

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

    def watch(self, now: float, timeout_s: float) -> None:
        """Asks for consent if that is due, and ends a peer that is lost; called every second.

        A peer is lost if nothing was heard of it for ``timeout_s``, or if it gave no consent for 30 s.
        """
        if self.lifetime.state is not PeerState.CONNECTED:
            return
        self.ice.keep_consent(now)
        heard, consent = self.ice.last_authenticated, self.ice.last_consent
        if heard is not None and now - heard > timeout_s:
            self.fail(PeerLost(f"nothing heard from the peer for {timeout_s:g} s"))
        elif consent is not None and now - consent > _CONSENT_EXPIRES_S:
            self.fail(PeerLost(f"the peer has not renewed its consent to receive for {_CONSENT_EXPIRES_S:g} s"))

    def fail(self, error: BridgeError) -> None:
        """Ends the call because of ``error``, unless it is ending already."""
        self._end(error.code, error)

    def _end(self, reason: str, error: BridgeError | None) -> None:
        was_connecting = self.lifetime.state in (PeerState.NEW, PeerState.HANDSHAKING)
        self.lifetime.end(reason, error)
        if was_connecting:
            self.ice.close()

    def _handler_failed(self, error: Exception) -> None:
        self.faults["handler_error"] += 1
        self._log.error("peer.handler_failed", exc_info=error)
        self.fail(PeerError(f"{type(error).__name__}: {error}", code="internal_error"))

    def _is_alive(self) -> None:
        """Notes that DTLS has decrypted something, which only the peer can have sent."""
        self.ice.last_authenticated = asyncio.get_running_loop().time()

    def _take_channel(self, channel: RTCDataChannel) -> None:
        self._events.take_channel(channel, max_message_bytes=self.negotiation.remote.max_message_bytes)

    # Leg

    @property
    def input_format(self) -> AudioFormat:
        """The format that the peer's Opus is decoded to."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """The format that the peer's Opus is encoded from."""
        return PCM16

    @property
    def passage(self) -> RtpSession:
        """The passage by which Opus may pass here as it is."""
        return self.rtp

    def play(self, part: Part, pcm: bytes) -> bool:
        """Queues sound, at any speed; False if that was too much. A peer that takes no sound drops it."""
        is_played = self.rtp.hears or self.rtp.is_publisher
        return not is_played or self.rtp.outbound.push(part, pcm)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be heard."""
        return self.rtp.outbound.waiting_bytes

    def end(self, response_id: str) -> None:
        """Notes that no more sound of this response will come."""
        outbound = self.rtp.outbound
        for event in (*outbound.end_heard(), *outbound.playback.end(response_id)):
            self._owner.played(event)

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Drops what is queued: the peer hears silence from the next packet on."""
        return self.rtp.outbound.clear()

    def mark(self, mark_id: str) -> bool:
        """Sets a mark after all that is queued."""
        return self.rtp.outbound.playback.mark(mark_id)

    def hang_up(self, reason: str) -> None:
        """Begins to close the connection."""
        self._end(reason, None)

    @property
    def failure(self) -> None:
        """None, because a peer may come for the events alone."""
        return None

    def stats(self) -> PeerStats:
        """The number of its packets, both ways, and what became of them."""
        inbound, outbound, reports = self.rtp.inbound, self.rtp.outbound, self.rtp.reports
        stats = inbound.stats
        return PeerStats(
            packets=stats.packets,
            lost=stats.lost,
            late=stats.late,
            too_fast=stats.too_fast,
            doubles=self.rtp.doubles,
            recovered=stats.recovered,
            concealed_ms=stats.concealed_ms,
            silence_ms=stats.silence_ms,
            jitter_ms=round(stats.jitter_ms, 1),
            reorder_ms=round(1000 * inbound.wait_s),
            held=inbound.held,
            round_trip_ms=None if reports.round_trip_ms is None else round(reports.round_trip_ms, 1),
            sent=outbound.packets,
            passed_on=outbound.passed,
            resent=self.rtp.resent,
            remote_lost_percent=round(reports.remote_lost_percent, 1),
            remote_jitter_ms=round(reports.remote_jitter_ms, 1),
            queued_ms=outbound.playback.queued_ms,
            overflow_ms=outbound.overflow_ms,
            moves=self.ice.moves,
            datagrams_dropped=self.ice.dropped,
            faults=self.faults.total() + stats.malformed + reports.malformed,
        )
