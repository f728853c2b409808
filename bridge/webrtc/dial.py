"""A peer for a call that we dial: we offer, somebody else answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bridge.context import CallContext
from bridge.errors import PeerError
from bridge.media.contracts import LegOwner
from bridge.webrtc.channel import CHANNEL_LABEL
from bridge.webrtc.dtls import new_certificate
from bridge.webrtc.ice_full import IceFull, IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.webrtc.sdp import OFFERED_OPUS, DtlsRole, Offer, OfferParameters, SetupRole, parse_remote, write_offer

__all__ = ["dial"]

Signal = Callable[[str], Awaitable[bytes]]
"""Takes our offer to the other side and returns its answer."""


@asynccontextmanager
async def dial(
    runner: PeerRunner,
    owner: LegOwner,
    signal: Signal,
    *,
    queue_limit_s: int = 600,
    is_microphone: bool = False,
    ice_servers: IceServers | None = None,
    context: CallContext | None = None,
    new_agent: Callable[[IceServers | None], IceFull] = IceFull,
) -> AsyncIterator[Peer]:
    """Makes an offer, takes the answer and runs the peer; leaving the block hangs up.

    Raises ``BadOffer`` or ``PeerError``. With ``is_microphone`` our sound never pauses: silence is sent as well.
    ``context`` is that of the call for which we dial. ``new_agent`` makes the ICE agent, through which all packets go.
    """
    ice = new_agent(ice_servers)
    ice.burst = runner.burst
    peer = Peer(
        ice,
        new_certificate(),
        owner,
        inbound_opus=OFFERED_OPUS,
        outbound_opus=OFFERED_OPUS,
        queue_limit_s=queue_limit_s,
        is_microphone=is_microphone,
        context=context,
        burst=runner.burst,
    )
    try:
        ufrag, pwd, candidates = await ice.gather()
        ours = OfferParameters(
            ice_ufrag=ufrag,
            ice_pwd=pwd,
            fingerprint=peer.fingerprint,
            candidates=candidates,
            ssrc=peer.rtp.outbound.ssrc,
        )
        answer = parse_remote(await signal(write_offer(ours)))
        if answer.audio is not None and answer.opus_payload_type != OFFERED_OPUS:
            raise PeerError("the answer has a different payload type for Opus than the offer")
        peer.connect_to(answer, DtlsRole.SERVER if answer.setup is SetupRole.ACTIVE else DtlsRole.CLIENT)
        runner.spawn(_carry(ice, peer, answer))
        runner.run(peer, open_channel=CHANNEL_LABEL)
        try:
            yield peer
        finally:
            peer.hang_up("caller_closed")
            await peer.lifetime.closed.wait()
    finally:
        await ice.aclose()


async def _carry(ice: IceFull, peer: Peer, answer: Offer) -> None:
    """Connects the agent; if that fails, the peer fails too."""
    try:
        await ice.connect(answer.ice_ufrag, answer.ice_pwd, answer.candidates)
    except PeerError as error:
        peer.fail(error)
