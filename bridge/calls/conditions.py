"""Which ICE session a request is about: entity-tags and ``If-Match``, as RFC 9725 section 4.3.1 has them.

Requests of one peer may overtake each other. The tag names the ICE session, so that candidates from before a restart do
not count for the ICE session after it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.calls.handles import IceAnswer
from bridge.errors import NoCondition, NotTheState
from bridge.media.contracts import Leg
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.fragment import IceFragment

__all__ = ["IfMatch", "newest_tag", "patch_peer"]

_ANY = "*"
_TAG = re.compile(r'(W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class IfMatch:
    """A request's ``If-Match`` (RFC 9110 section 13.1.1)."""

    tags: frozenset[str]
    """The strong entity-tags, without their quotes; ``*`` stands for any."""

    @classmethod
    def parse(cls, header: str | None) -> "IfMatch":
        """Parses the header; raises ``NoCondition`` if it is absent.

        ``*`` in quotes is taken for any too, because the RFC's own example writes it so.
        """
        if header is None:
            advice = "Name the ICE session in If-Match: its ETag, or * for a restart."
            raise NoCondition(advice, param="If-Match")
        if header.strip() == _ANY:
            return cls(frozenset({_ANY}))
        return cls(frozenset(tag for is_weak, tag in _TAG.findall(header) if not is_weak))

    def require(self, tag: str | None) -> None:
        """Raises ``NotTheState`` unless the ICE session ``tag`` is one that is meant.

        The tag is None if there is none.
        """
        if tag is None or self.tags.isdisjoint({_ANY, tag}):
            raise NotTheState(
                "The If-Match header is not the ETag of this peer's current ICE session.", param="If-Match"
            )


def newest_tag(endpoint: Endpoint, legs: Sequence[Leg]) -> str | None:
    """Returns the tag of the present ICE session: that of the leg which came last."""
    return endpoint.ice_tag(legs[-1]) if legs else None


def patch_peer(endpoint: Endpoint, legs: Sequence[Leg], fragment: IceFragment, condition: IfMatch) -> IceAnswer | None:
    """Gives a fragment to the leg that came last; returns what answers it, if it is an ICE restart.

    Raises ``NotTheState``.
    """
    condition.require(newest_tag(endpoint, legs))
    answer = endpoint.take_fragment(legs[-1], fragment)
    return None if answer is None else IceAnswer(fragment=answer, tag=newest_tag(endpoint, legs) or "")
