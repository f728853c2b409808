"""DTLS, SRTP keys and the data channel by aiortc, guarded; the one module that touches aiortc's private names.

aiortc trusts its peer more than a server may. What it is shielded from here, each proved on a live call in
``tests/webrtc/test_guards.py``:

- malformed chunks and parameters, which its parsers answer with exceptions or not at all: checked before it sees them;
- exceptions of its SCTP and of our own handlers, which would end its receive loop: contained and counted;
- unbounded reassembly and reordering: what is over our window is dropped, and a message that is too large ends the
  association, as does a table of too many streams.
"""

import asyncio
import itertools
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCIceTransport,
    RTCSctpTransport,
)
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdtlstransport import RTCDtlsTransport

from bridge.errors import PeerError
from bridge.webrtc.ice import IceAgent
from bridge.webrtc.sdp import DtlsRole, Fingerprint, Offer
from bridge.webrtc.srtp import SrtpKeys, keys_of

__all__ = ["WINDOW_BYTES", "SecureTransport", "is_well_formed", "new_certificate"]

WINDOW_BYTES = 512 * 1024
"""How much an association's peer may have on its way to us, and so the most that is held of unfinished messages.

It is twice what we announce as the longest message.
"""
_MAX_MESSAGE_BYTES = 262_144 + 1200
_MAX_STREAMS = 64  # open at a time, whatever their ids
_MAX_PIECES = 1024  # of one message; each costs more than the one before
_MAX_MISORDERED = 512
_MAX_BAD_PACKETS = 100  # in one association; a broken middlebox makes a few, an attacker many
_ANNOUNCED_WITHIN_S = 1.0  # some round trips after SCTP's own
_CHANNELS_CLOSE_WITHIN_S = 0.5  # a peer that is there takes a round trip; for one that is gone we do not wait longer
_OPEN = bytes([sctp.DATA_CHANNEL_OPEN])
_RTO_INITIAL_S, _RTO_MIN_S = 0.5, 0.2  # aiortc's 3 s and 1 s make a lost INIT cost seconds

_PARAMETER_OFFSETS = {1: 16, 2: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0}
"""Where the parameters of a chunk type begin in its body (RFC 9260 section 3.3, RFC 6525 section 3.1)."""
_SACK, _FORWARD_TSN = 3, 192
_LEAST_BODY_BYTES = {0: 13, 1: 16, 2: 16, 3: 12, 7: 4, _FORWARD_TSN: 4}
"""The shortest body of each chunk type; a DATA chunk carries at least one byte (RFC 9260 section 3.3.1)."""

OnChannel = Callable[[RTCDataChannel], None]


def new_certificate() -> RTCCertificate:
    """Makes a self-signed certificate for this process."""
    return RTCCertificate.generateCertificate()


class SecureTransport:
    """DTLS over an ICE agent, the SRTP sessions keyed by it, and SCTP inside it.

    ``faults`` counts what was refused. ``on_channel`` gets each data channel that is open. ``on_closed`` is called when
    the peer closes. ``on_abuse`` is called with a word for what the peer did, if no honest peer does it. ``on_life`` is
    called whenever something came that only the peer can have sent.
    """

    def __init__(
        self,
        ice: IceAgent,
        certificate: RTCCertificate,
        *,
        faults: Counter[str],
        on_channel: OnChannel,
        on_closed: Callable[[], None],
        on_abuse: Callable[[str], None],
        on_life: Callable[[], None],
    ) -> None:
        self._faults = faults
        self._on_closed = on_closed
        self._on_abuse = on_abuse
        self._on_life = on_life
        self._on_channel = on_channel
        self._certificate = certificate
        self._dtls = _Dtls(cast(RTCIceTransport, ice), [certificate])  # it uses role, _recv and _send
        self._sctp: _Sctp | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Our certificate's fingerprint, for the answer."""
        found = {f.algorithm: f.value for f in self._certificate.getFingerprints()}
        return Fingerprint("sha-256", found["sha-256"])

    async def start(self, remote: Offer, *, role: DtlsRole, open_channel: str | None = None) -> None:
        """Does the handshake in its ``role``, checks the peer's certificate, then starts SCTP if it is there.

        ``open_channel`` is the label of a data channel to open from our side.
        """
        dtls = self._dtls
        dtls._set_role(role)
        fingerprints = [RTCDtlsFingerprint(algorithm=f.algorithm, value=f.value) for f in remote.fingerprints]
        await dtls.start(RTCDtlsParameters(fingerprints=fingerprints))
        if dtls.state != "connected":
            raise PeerError("the DTLS handshake failed", code="dtls_failed")
        dtls.on("statechange", self._dtls_changed)
        if remote.application is not None:
            self._sctp = _Sctp(dtls, self._faults, on_abuse=self._on_abuse, on_life=self._on_life)
            self._sctp.on("datachannel", self._on_channel)
            if open_channel is None:
                self._sctp.expect_channel()
            if open_channel is not None:
                channel = RTCDataChannel(self._sctp, RTCDataChannelParameters(label=open_channel))
                channel.once("open", lambda: self._on_channel(channel))
            await self._sctp.start(sctp.RTCSctpCapabilities(remote.max_message_bytes), remote.sctp_port)

    def srtp_keys(self) -> SrtpKeys:
        """Returns SRTP under the keys that the handshake has brought."""
        return keys_of(self._dtls._tx_srtp, self._dtls._rx_srtp)

    async def aclose(self) -> None:
        """Says goodbye for each channel, then once each of SCTP and DTLS, and stops."""
        self._dtls.remove_all_listeners()
        if self._sctp is not None:
            self._sctp.expect_no_channel()
            await self._sctp.close_channels()
            await self._sctp.stop()
        await self._dtls.stop()

    def _dtls_changed(self) -> None:
        if self._dtls.state in ("closed", "failed"):
            self._on_closed()


class _Dtls(RTCDtlsTransport):
    """A transport that ignores what is sent after its end: late SCTP timers would raise with nobody to catch it.

    It ends with the goodbye; the state says so some turns of the loop later.
    """

    async def _send_data(self, data: bytes) -> None:
        if self.state == "connected" and self._ssl is not None and not self._ssl.get_shutdown():
            await super()._send_data(data)


class _Sctp(RTCSctpTransport):
    """SCTP that survives a faulty peer, and finds the channels that the peer does not announce.

    A channel that was agreed on by its id alone (``negotiated``) is used without a word of DCEP. It is there from its
    first message on, or has the id 0 if the association was quiet for a while (RFC 8832 section 6, RFC 8831 section
    6.5). If a message comes on a channel of ours, that counts as the peer's ACK, which is still on its way.
    """

    def __init__(
        self,
        transport: RTCDtlsTransport,
        faults: "Counter[str]",
        *,
        on_abuse: Callable[[str], None],
        on_life: Callable[[], None],
    ) -> None:
        super().__init__(transport)
        self._faults = faults
        self._bad_packets = 0
        self._on_abuse = on_abuse
        self._on_life = on_life
        self._is_expecting = False
        self._quiet: asyncio.TimerHandle | None = None
        self._rto = _RTO_INITIAL_S
        self._advertised_rwnd = WINDOW_BYTES

    def expect_channel(self) -> None:
        """From now on waits for a channel of the peer's, announced or not."""
        self._is_expecting = True

    def expect_no_channel(self) -> None:
        """Waits for no channel any more, because the association is about to end."""
        self._is_expecting = False
        if self._quiet is not None:
            self._quiet.cancel()

    async def close_channels(self) -> None:
        """Resets the streams of all open channels (RFC 8831 section 6.7), and gives the peer a moment to do so too.

        Some stacks, such as GStreamer's, tell their program of no other end, or call an association's end an error.
        """
        if self.transport.state != "connected":
            return
        channels = [channel for channel in self._data_channels.values() if channel.readyState == "open"]
        ends = [asyncio.Event() for _ in channels]
        for channel, closed in zip(channels, ends, strict=True):
            channel.remove_all_listeners()
            channel.once("close", closed.set)
            channel.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHANNELS_CLOSE_WITHIN_S):
                for closed in ends:
                    await closed.wait()

    def _set_state(self, state: sctp.RTCSctpTransport.State) -> None:
        super()._set_state(state)
        if state == self.State.ESTABLISHED and self._is_expecting and self._quiet is None:
            self._quiet = asyncio.get_running_loop().call_later(_ANNOUNCED_WITHIN_S, self._open_unannounced, 0)

    def _open_unannounced(self, stream_id: int) -> None:
        """Opens the channel that the peer uses without having announced it."""
        if not self._is_expecting or self._data_channels or self._association_state != self.State.ESTABLISHED:
            return
        parameters = RTCDataChannelParameters(negotiated=True, id=stream_id)
        self.emit("datachannel", RTCDataChannel(self, parameters))

    async def _handle_data(self, data: bytes) -> None:
        self._on_life()
        if not is_well_formed(data, outstanding=len(self._sent_queue)):
            self._fault("malformed_sctp")
            return
        try:
            await super()._handle_data(data)
        except ConnectionError:
            raise
        except Exception as error:
            self._fault(f"sctp_{type(error).__name__}")

    async def _receive_data_chunk(self, chunk: sctp.DataChunk) -> None:
        if (
            self._association_state != self.State.ESTABLISHED
            and self._association_state != self.State.COOKIE_ECHOED
            or chunk.stream_id >= sctp.MAX_STREAMS
        ):
            self._fault("sctp_data_refused")
            return
        stream = self._inbound_streams.get(chunk.stream_id)
        if stream is None and not self._has_room_for({chunk.stream_id}):
            return
        is_next = chunk.tsn == sctp.tsn_plus_one(self._last_received_tsn or 0)
        if not is_next and self._is_full(stream):
            self._sack_needed = True
            self._faults["sctp_no_room"] += 1  # as if it were lost: it comes again (RFC 9260 section 6.2)
            return
        await super()._receive_data_chunk(chunk)
        # If nothing is missing, all that is held is one message: its pieces have consecutive TSNs (section 6.9). If
        # something is missing, as much again as our window may be held; what fills the gaps is counted in it as well.
        is_missing = bool(self._sack_misordered)
        max_bytes = _MAX_MESSAGE_BYTES + WINDOW_BYTES * is_missing
        max_pieces = _MAX_PIECES + _MAX_PIECES * is_missing
        pieces = stream.reassembly if (stream := self._inbound_streams.get(chunk.stream_id)) else []
        if WINDOW_BYTES - self._advertised_rwnd > max_bytes or len(pieces) > max_pieces:
            self._end_over_limit("unfinished messages")

    def _is_full(self, stream: sctp.InboundStream | None) -> bool:
        """Whether nothing more may be held of what came too early; what is missing fits in any case."""
        return (
            self._advertised_rwnd <= 0
            or len(self._sack_misordered) >= _MAX_MISORDERED
            or stream is not None
            and len(stream.reassembly) >= _MAX_PIECES
        )

    def _has_room_for(self, stream_ids: set[int]) -> bool:
        """Whether these streams may be held beside those that are; if not, the association ends."""
        if len(self._inbound_streams.keys() | stream_ids) <= _MAX_STREAMS:
            return True
        self._end_over_limit("streams")
        return False

    def _end_over_limit(self, what: str) -> None:
        self._faults["sctp_over_limit"] += 1
        self._on_abuse(f"more {what} than are held")

    async def _receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        try:
            channel = self._data_channels.get(stream_id)
            if pp_id != sctp.WEBRTC_DCEP:
                if channel is None:
                    self._open_unannounced(stream_id)
                    self._faults["no_channel"] += stream_id not in self._data_channels
                elif channel.readyState == "connecting":
                    channel._setReadyState("open")
            elif channel is not None and channel.negotiated and data[:1] == _OPEN:
                del self._data_channels[stream_id]  # it was announced after all, late
                channel.remove_all_listeners()
            await super()._receive(stream_id, pp_id, data)
        except Exception as error:  # only this message is at fault, not those behind it
            self._fault(f"sctp_{type(error).__name__}")

    def _data_channel_close(self, channel: RTCDataChannel) -> None:
        """Closes a channel whose stream the peer has reset.

        If the peer is gone then, it never answers our own reset.
        """
        super()._data_channel_close(channel)
        channel.emit("closing")

    async def _receive_forward_tsn_chunk(self, chunk: sctp.ForwardTsnChunk) -> None:
        chunk.streams = [stream for stream in chunk.streams if stream[0] < sctp.MAX_STREAMS]
        if self._has_room_for({stream_id for stream_id, _ in chunk.streams}):
            await super()._receive_forward_tsn_chunk(chunk)

    def _update_rto(self, R: float) -> None:
        super()._update_rto(R)
        assert self._srtt is not None
        assert self._rttvar is not None
        self._rto = max(_RTO_MIN_S, min(self._srtt + 4 * self._rttvar, sctp.SCTP_RTO_MAX))

    def _fault(self, kind: str) -> None:
        self._faults[kind] += 1
        self._bad_packets += 1
        if self._bad_packets >= _MAX_BAD_PACKETS:
            self._on_abuse("too many malformed packets")


def is_well_formed(packet: bytes, *, outstanding: int) -> bool:
    """Whether chunk and parameter lengths make sense, and a SACK names nothing twice or that was never sent.

    ``outstanding`` is how many chunks of ours wait to be acknowledged. See RFC 9260 sections 3.2, 3.2.1 and 3.3.4.
    """
    at = sctp.SCTP_COMMON_HEADER_LENGTH
    end = len(packet)
    while at <= end - 4:
        chunk_type, length = packet[at], packet[at + 2] << 8 | packet[at + 3]
        if length < 4 or at + length > end:
            return False
        body = packet[at + 4 : at + length]
        if len(body) < _LEAST_BODY_BYTES.get(chunk_type, 0):
            return False
        offset = _PARAMETER_OFFSETS.get(chunk_type)
        if offset is not None and not _parameters_fit(body, offset):
            return False
        if chunk_type == _SACK and not _sack_fits(body, outstanding):
            return False
        at += length + -length % 4
    return True


def _parameters_fit(body: bytes, at: int) -> bool:
    while at <= len(body) - 4:
        length = body[at + 2] << 8 | body[at + 3]
        if length < 4 or at + length > len(body):
            return False
        at += length + -length % 4
    return True


def _sack_fits(body: bytes, outstanding: int) -> bool:
    gaps, duplicates = struct.unpack_from("!HH", body, 8)
    if len(body) < 12 + 4 * (gaps + duplicates):
        return False
    edges = struct.unpack_from(f"!{2 * gaps}H", body, 12)
    is_ascending = all(a <= b for a, b in itertools.pairwise(edges)) and len(set(edges[::2])) == gaps
    return is_ascending and (not edges or edges[-1] <= outstanding + _MAX_MISORDERED)
