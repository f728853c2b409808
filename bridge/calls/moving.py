"""Telephone calls that their carrier connects again, when the process that has or had them may be another one."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from bridge.calls.handles import CarrierCall
from bridge.wire.stats import Transport

__all__ = [
    "CarrierCallFinder",
    "CarrierConnection",
    "MovingCall",
    "Receive",
    "is_one_of_digests",
    "token_digest",
]

Receive = Callable[[], Awaitable[str | bytes | None]]
"""Returns the next message of a carrier; None if it has hung up. It raises ``ConnectionError`` if that is lost."""


class CarrierConnection(Protocol):
    """The bridge's end of a carrier's connection. Its methods never wait and never raise."""

    def write_messages(self, messages: list[str | bytes]) -> None:
        """Sends messages at once."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Ends the connection within a bounded time; may be called twice."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that the kernel has not taken yet."""
        ...


class MovingCall(Protocol):
    """A telephone call that another process has or had. This process has no leg of it."""

    @property
    def is_running(self) -> bool:
        """Whether a process that lives has the call."""
        ...

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process is to be given the carrier's connection: it has the call, or takes it over."""
        ...

    def is_opened_by(self, token: str) -> bool:
        """Whether this is a token with which the carrier has connected the call before."""
        ...

    async def take_over(self, *, comes_back: bool) -> CarrierCall | None:
        """Goes on with the call here, and returns it; None if it is over, or another process was first.

        ``comes_back`` is as in ``CallService.open_with_carrier``. Raises ``BridgeError`` if it is not possible.
        """
        ...

    async def reach(self, scope: Mapping[str, Any]) -> bool:
        """Connects to the process that has the call or takes it over; returns False if nothing is left of that process.

        ``scope`` is the ASGI scope of the request by which the carrier has connected. Raises ``BridgeError`` if the
        process does not take it. ``pass_on`` follows.
        """
        ...

    async def pass_on(
        self,
        messages: Sequence[str | bytes],
        receive: Receive,
        connection: CarrierConnection,
        *,
        judged_within_s: float,
    ) -> None:
        """Passes a carrier's connection on, from which ``messages`` were read already, until one side ends it.

        The client counts as a stranger until the other process has had ``judged_within_s`` to turn it away.
        """
        ...


class CarrierCallFinder(Protocol):
    """Finds telephone calls by their carrier's ids, in whichever process they are."""

    async def find_carrier_call(self, carrier: Transport, carrier_call: str) -> MovingCall | None:
        """Returns the carrier's call with this id, which is the carrier's; None if it is nobody's. Raises
        ``CannotCheck``.
        """
        ...

    async def has_heard_of(self, carrier: Transport, carrier_call: str) -> bool:
        """Returns whether a process has told of the carrier's call with this id, even if only that it is over.

        Of a call that has just begun none has yet. Raises ``CannotCheck``.
        """
        ...


def token_digest(token: str) -> str:
    """Returns the digest of a random token. By it the token is known again, although it is not kept."""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def is_one_of_digests(token: str, digests: Collection[str]) -> bool:
    """Returns whether one of the digests is the token's; compares in constant time."""
    shown = token_digest(token)
    matches = [hmac.compare_digest(shown, known) for known in digests]
    return any(matches)
