"""Offers of those who only speak, or only hear: WHIP's publishers and WHEP's players.

Whatever such an offer says of the other direction, the answer says that it is not used. A data channel is rejected,
because it would let its owner steer the call. If an offer has two sections of sound, nobody could say which one is
meant. So it is refused as a whole, because a part of a stream is worse than an error (RFC 9725 section 4.4.3).
"""

from dataclasses import replace

from bridge.errors import BadOffer
from bridge.webrtc.sdp import MUX_ONLY, Offer

__all__ = ["as_played", "as_published"]


def as_published(offer: Offer) -> Offer:
    """Returns the offer of a peer that speaks and hears nothing; raises ``BadOffer`` if it does not speak."""
    if not offer.sends_audio:
        raise BadOffer("A publisher sends sound: its audio section must be sendonly or sendrecv.", param="sendonly")
    _require_one(offer, "sendonly")
    return _alone(replace(offer, outbound=None))


def as_played(offer: Offer) -> Offer:
    """Returns the offer of a peer that hears and says nothing; raises ``BadOffer`` if it does not hear."""
    if not offer.receives_audio:
        raise BadOffer("A player receives sound: its audio section must be recvonly or sendrecv.", param="recvonly")
    _require_one(offer, "recvonly")
    return _alone(replace(offer, inbound=None))


def _require_one(offer: Offer, direction: str) -> None:
    sounds = [media for media in offer.media if media.kind == "audio" and not media.is_rejected]
    if len(sounds) > 1:
        raise BadOffer(f"The offer has {len(sounds)} audio sections; it must have one, {direction}.", param="m")


def _alone(offer: Offer) -> Offer:
    """Returns the offer without its data channel.

    Each accepted section says that its RTCP comes with its RTP, as the answer has to say (RFC 9725 section 4.4.1).
    """
    accepted = tuple(media for media in offer.accepted if media is not offer.application)
    for media in accepted:
        media.add_attribute(MUX_ONLY, "")
    return replace(offer, application=None, accepted=accepted)
