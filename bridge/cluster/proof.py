"""Proves to a node that a request comes from another one: by a short-lived signature with the cluster's secret.

The signature also covers what the client was when it came to the first node: its address, its scheme and its host. So
the node that answers judges the client, and not its neighbour, and a client cannot say anything of this itself.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MAX_HOPS", "PROOF", "Origin", "Proofs"]

PROOF = "bridge-node"
"""The header that holds the proof."""

MAX_HOPS = 2
"""The most nodes that a request is passed to.

The node that a call began on may say that another one has it now.
"""

_GOOD_MS = 60_000


@dataclass(frozen=True, slots=True)
class Origin:
    """The client whose request it is, as it came to the first node."""

    client: str
    port: int
    scheme: str
    host: str
    hops: int = 1


class Proofs:
    """Signs requests between nodes, and checks them; ``now_ms`` is a clock that all nodes share."""

    def __init__(self, secret: str, now_ms: Callable[[], int]) -> None:
        self._key = secret.encode()
        self._now_ms = now_ms

    def sign(self, method: str, target: str, origin: Origin) -> str:
        """Returns the header for a request of ``target``, which is its path and query."""
        told = (str(self._now_ms()), str(origin.hops), origin.scheme, origin.client, str(origin.port), origin.host)
        return "|".join((*told, self._mac(method, target, *told)))

    def check(self, proof: str, method: str, target: str) -> Origin | None:
        """Returns whose request it is; None if no node of this cluster has signed it lately."""
        *told, mac = proof.split("|")
        if len(told) != 6 or not proof.isascii() or not hmac.compare_digest(mac, self._mac(method, target, *told)):
            return None
        said_ms, hops, scheme, client, port, host = told
        if abs(self._now_ms() - int(said_ms)) > _GOOD_MS or int(hops) > MAX_HOPS:
            return None
        return Origin(client, int(port), scheme, host, int(hops))

    def _mac(self, *told: str) -> str:
        return hmac.digest(self._key, "\n".join(told).encode("utf-8", "surrogatepass"), "sha256").hex()
