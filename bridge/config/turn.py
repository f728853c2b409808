"""The settings of TURN servers, which carry the media of callers that cannot reach the bridge in another way."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["TurnSettings"]

# RFC 7065 section 3.1. If a browser gets another form, it refuses the whole peer connection.
_TURN_URL = re.compile(r"turns?:(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(?:\?transport=(?:udp|tcp))?")


class TurnSettings(Section, frozen=True, kw_only=True):
    """TURN servers for callers, and the secret that the bridge shares with them."""

    section: ClassVar[str] = "turn"
    title: ClassVar[str] = "turn: relays for callers whose network blocks media"

    turn_url: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "TURN server that is offered to callers, `turn:HOST:PORT` or `turns:HOST:PORT`, optionally with "
            "`?transport=udp` or `?transport=tcp`",
        ),
    ] = ()
    turn_secret: Annotated[
        Text | None,
        setting(
            Applies.LIVE,
            "secret that the bridge shares with the TURN servers: coturn's `static-auth-secret`",
            is_secret=True,
        ),
    ] = None
    turn_ttl_s: Annotated[
        int,
        setting(
            Applies.LIVE,
            "how long a caller's TURN credentials are valid, in seconds; never shorter than the key that comes with "
            "them",
            ge=60,
            le=604_800,
        ),
    ] = 7200

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds addresses that no browser takes, and servers without a secret, or a secret without servers."""
        for url in self.turn_url:
            match = _TURN_URL.fullmatch(url)
            if match is None:
                reason = "must be turn:HOST:PORT or turns:HOST:PORT, got a value that is not shown"
                yield Fault("turn_url", f"{reason}; the user and password are derived from turn_secret")
            elif match[2] is not None and not 0 < int(match[2]) < 65_536:
                yield Fault("turn_url", f"must have a port from 1 to 65535, got {match[2]}")
        if self.turn_url and self.turn_secret is None:
            yield Fault("turn_url", "needs turn_secret as well: a TURN server asks for credentials")
        if self.turn_secret is not None and not self.turn_url:
            yield Fault("turn_secret", "needs turn_url as well")
