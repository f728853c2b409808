"""What the two sides of a peer have agreed on by SDP, and what another offer of the same peer may change."""

from dataclasses import replace

from bridge.errors import BadOffer
from bridge.webrtc.sdp import AnswerParameters, DtlsRole, Offer, SetupRole, write_answer

__all__ = ["Negotiation"]


class Negotiation:
    """The remote description, our DTLS role, and the last answer."""

    def __init__(self, remote: Offer, dtls_role: DtlsRole) -> None:
        self.remote = remote
        self.dtls_role = dtls_role
        self.answer = ""
        """The last SDP answer that the peer was given."""
        self._answers = 0

    def continues(self, offer: Offer) -> bool:
        """Whether the offer is of this peer and the same DTLS association: an ICE restart, or a repeat (RFC 8842)."""
        ours = self.remote
        return (
            set(ours.fingerprints) == set(offer.fingerprints)
            and (ours.origin, ours.tls_id) == (offer.origin, offer.tls_id)
            and offer.setup in (SetupRole.ACTPASS, self.dtls_role.setup_of_peer)
        )

    def renew(self, offer: Offer) -> None:
        """Takes what has changed in the offer; raises ``BadOffer`` if it changes what cannot be changed."""
        ours = self.remote
        if (ours.application is None) is not (offer.application is None):
            raise BadOffer(
                "The data channel of a running call can be neither added nor removed; make a new call.", param="m"
            )
        for before, now in ((ours.inbound, offer.inbound), (ours.outbound, offer.outbound)):
            if now is not None and before is not None and before.opus != now.opus:
                raise BadOffer(
                    "The payload type of Opus cannot change during a call (RFC 3264 section 8.3.2).", param="rtpmap"
                )
        self.remote = offer

    def write_answer(self, ours: AnswerParameters) -> str:
        """Returns the answer to the last offer.

        Its version goes up if it differs from the last one (RFC 8866 section 5.2).
        """
        if write_answer(self.remote, replace(ours, version=self._answers)) != self.answer:
            self._answers += 1
            self.answer = write_answer(self.remote, replace(ours, version=self._answers))
        return self.answer
