"""Proves by signatures with the cluster's secret that something comes from a node: a request, or its own record.

A request's signature is short-lived, and names the node that it is for: whoever gets it cannot show it to another node.
It also covers what the client was when it came to the first node: its address, its scheme and its host. So the node
that answers judges the client, and not its neighbour, and a client cannot say anything of this itself.

The record with which a node tells the others its address stands in Redis. Whoever can write there, but does not know
the secret, cannot have the others send requests to an address of his.
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
_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Origin:
    """The client whose request it is, as it came to the first node."""

    client: str
    port: int
    scheme: str
    host: str
    hops: int = 1


class Proofs:
    """Signs what the node ``node_id`` sends, and checks what it gets; ``now_ms`` is a clock that all nodes share."""

    def __init__(self, secret: str, node_id: str, now_ms: Callable[[], int]) -> None:
        self._key = secret.encode()
        self._node_id = node_id
        self._now_ms = now_ms

    def sign(self, method: str, target: str, origin: Origin, *, to: str) -> str:
        """Returns the header for a request of ``target``, which is its path and query, to the node with the id ``to``.

        The id itself is not in the header: the receiver knows its own.
        """
        told = (str(self._now_ms()), str(origin.hops), origin.scheme, origin.client, str(origin.port), origin.host)
        return "|".join((*told, self._mac("request", to, method, target, *told)))

    def check(self, proof: str, method: str, target: str) -> Origin | None:
        """Returns whose request it is; None if no node of this cluster has signed it lately for this one."""
        *told, mac = proof.split("|")
        if len(told) != _FIELDS or not proof.isascii():
            return None
        if not hmac.compare_digest(mac, self._mac("request", self._node_id, method, target, *told)):
            return None
        said_ms, hops, scheme, client, port, host = told
        if abs(self._now_ms() - int(said_ms)) > _GOOD_MS or int(hops) > MAX_HOPS:
            return None
        return Origin(client, int(port), scheme, host, int(hops))

    def sign_record(self, record: str) -> str:
        """Returns this node's own record with the time and its signature in front."""
        said_ms = str(self._now_ms())
        return f"{self._mac('record', self._node_id, said_ms, record)} {said_ms} {record}"

    def check_record(self, node_id: str, signed: str) -> str | None:
        """Returns what ``sign_record`` of the node ``node_id`` was given; None if that node has not signed it lately.

        An old record of a node that is gone would name an address that somebody else may have now.
        """
        mac, _, rest = signed.partition(" ")
        said_ms, _, record = rest.partition(" ")
        if not mac.isascii() or not hmac.compare_digest(mac, self._mac("record", node_id, said_ms, record)):
            return None
        return record if abs(self._now_ms() - int(said_ms)) <= _GOOD_MS else None

    def _mac(self, *told: str) -> str:
        return hmac.digest(self._key, "\n".join(told).encode("utf-8", "surrogatepass"), "sha256").hex()
