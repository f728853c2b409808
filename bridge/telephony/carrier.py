"""What a carrier is to the bridge: one row of the table, made of data and functions of the carrier's own package.

The shared part serves what a row declares: it makes the routes and their description, signs connections in, keeps the
calls and hangs them up. Nothing outside the package and its row knows of a carrier.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from bridge.api.gate import Gate
from bridge.api.keys import Keys
from bridge.api.operation import Operation
from bridge.calls.keys import Grant
from bridge.calls.service import CallService
from bridge.config import Section, TelephonySettings
from bridge.ports import Ports
from bridge.telephony.carrier_calls import CarrierCalls, Trust
from bridge.telephony.dialect import CarrierDialect
from bridge.telephony.jwks import PublicKeys

__all__ = ["TELEPHONY", "CallTransfer", "Carrier", "CarrierHost", "CarrierSocket", "HangUp", "HttpEndpoint"]

TELEPHONY = "/v1/telephony"
"""The path below which every carrier has its endpoints: ``/v1/telephony/NAME``."""

S = TypeVar("S", bound=Section)
"""The type of a carrier's settings."""


@dataclass(slots=True, kw_only=True)
class CarrierHost(Generic[S]):
    """What a carrier's functions may use of the daemon. Its settings may change, so they are read each time."""

    settings: S
    """The carrier's own settings."""
    telephony: TelephonySettings
    """The settings that all carriers share."""
    calls: CallService
    keys: Keys
    gate: Gate
    carrier_calls: CarrierCalls
    tasks: asyncio.TaskGroup
    """The tasks that outlive a request. They end with the daemon."""
    public_keys: PublicKeys = field(default_factory=PublicKeys)
    """The keys by which the carrier signs, if it publishes them."""
    ports: Ports = field(default_factory=Ports)
    """The source of the carriers' own ports."""

    async def admit_operator(self, request: Request) -> Grant:
        """Lets in whoever runs the bridge; raises ``Unauthorized`` or ``Forbidden`` for others.

        Clients' keys open no telephone lines.
        """
        return await self.keys.admit_admin(request.headers)

    def public_url(self, scheme: str, path: str) -> str:
        """Returns the address of ``path`` as carriers know it.

        ``scheme`` is http or ws. It gets an s if the setting ``public_url`` has one.
        """
        public_url = self.telephony.public_url
        assert public_url is not None  # the check of the settings has made sure of it
        return scheme + public_url.removeprefix("http").rstrip("/") + path


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierSocket(Generic[S]):
    """The WebSocket ``/v1/telephony/NAME`` on which a carrier streams a call's sound."""

    what: str
    """What the socket carries, for the description of the API."""
    opened_by: str
    """What a connection has to show, for the description of the API."""
    sign_in: Callable[[CarrierHost[S], HTTPConnection], Trust | Awaitable[Trust]]
    """Judges the upgrade, before it is accepted; raises ``BridgeError`` if the connection is not let in."""
    checks: Callable[[CarrierHost[S], HTTPConnection], str]
    """What ``sign_in`` compares with what the connection shows, for the log: names of settings, and no secret."""
    new_dialect: Callable[[HTTPConnection], CarrierDialect]
    """Makes the dialect of one connection."""
    is_prefix: bool = False
    """Whether the endpoint also takes every path below its own, whatever the carrier appends."""
    subprotocols: tuple[str, ...] = ()
    """The subprotocols that it speaks. The first of them that the carrier offers is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEndpoint(Generic[S]):
    """One more operation of a carrier: a webhook that is answered, or a request that the application makes."""

    operation: Operation
    handle: Callable[[CarrierHost[S], Request], Awaitable[Response]]


class HangUp(Protocol):
    """Ends a call that closing its connection does not end."""

    @property
    def failures(self) -> int:
        """The number of calls that may still be up because hanging up failed."""
        ...

    async def hang_up(self, call: str) -> None:
        """Ends the call with this id, which is the carrier's; never raises."""
        ...


class CallTransfer(Protocol):
    """The way in which a carrier transfers calls."""

    async def transfer(self, call: str, target: str) -> None:
        """Connects the call with this id, which is the carrier's, to a ``tel:`` or ``sip:`` URI.

        With ``Carrier.transfers_by_document`` the target is the address at which the carrier fetches how it goes on.
        Raises ``BadRequest`` if the carrier refuses, ``UpstreamError`` if it does not answer.
        """
        ...


def _no_hang_up(settings: Any) -> None:
    return None


def _no_transfer(settings: Any) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier(Generic[S]):
    """One row of the carriers' table."""

    name: str
    """Its name in paths, in the log, and as the ``transport`` of its calls. Its dialect has the same ``name``."""
    settings: type[S]
    """The type of its section of the settings."""
    is_open: Callable[[S], bool]
    """Returns whether these settings let the carrier in."""
    socket: CarrierSocket[S] | None = None
    endpoints: tuple[HttpEndpoint[S], ...] = ()
    listen: Callable[[CarrierHost[S]], Awaitable[asyncio.Server | None]] | None = None
    """Opens a TCP port of the carrier's own, if it is set. The server does not serve yet; raises ``ConfigError``."""
    new_hang_up: Callable[[S], HangUp | None] = _no_hang_up
    """Makes what ends its calls, if closing the connection is not enough and the settings allow it."""
    new_transfer: Callable[[S], CallTransfer | None] = _no_transfer
    """Makes what transfers its calls to somebody else, if the settings allow it."""
    transfer_needs: tuple[str, ...] = ()
    """The settings without which ``new_transfer`` returns None; empty if it has no way to transfer calls."""
    transfers_by_document: Callable[[S], bool] = lambda settings: False
    """Returns whether the carrier fetches how a transferred call goes on, at the row's ``document_endpoint``."""
    transfer_words: Callable[[Any, str], list[str | bytes]] | None = None
    """Makes the messages that transfer a call, of its dialect and a URI, if messages on the connection do that."""
