"""A full ICE agent by aioice, for the calls that we dial: host, STUN and TURN candidates, one component."""

import asyncio
import random
import re
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aioice
from aioice import stun

from bridge.burst import Burst
from bridge.errors import ConfigError, PeerError
from bridge.webrtc.ice import CONSENT_INTERVAL_S, IceAgent, IceRole, PacketKind, packet_kind

__all__ = ["IceFull", "IceServers"]

_SERVER = re.compile(
    r"(stun|turns?):(?:([^:@\s]+):([^@\s]+)@)?(\[[0-9a-fA-F:]+\]|[^:@?\s]+)(?::([0-9]{1,5}))?"
    r"(?:\?transport=(udp|tcp))?"
)
_DEFAULT_PORT, _DEFAULT_TLS_PORT = 3478, 5349  # RFC 8489 section 18.6

_TURN_WAYS = frozenset({"turn:udp", "turn:tcp", "turns:tcp"})
_MAX_CANDIDATES = 32
_RTP = PacketKind.RTP
_LAST_STUN = b"\x03"  # the highest first byte


@dataclass(frozen=True, slots=True)
class IceServers:
    """The servers that help us to be reached; aioice knows one of each kind."""

    stun: tuple[str, int] | None = None
    turn: tuple[str, int] | None = None
    turn_username: str | None = None
    turn_password: str | None = field(default=None, repr=False)
    turn_transport: str = "udp"
    """The transport to the TURN server, ``udp`` or ``tcp``; what it relays is UDP."""
    turn_tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    """The certificates that we trust of a TURN server over TLS; None if we speak to it in the clear."""

    @classmethod
    def parse(cls, urls: Iterable[str], tls: ssl.SSLContext | None = None) -> "IceServers":
        """Parses ``stun:HOST[:PORT]`` and ``turn(s):USER:PASSWORD@HOST[:PORT][?transport=…]``; raises ``ConfigError``.

        ``tls`` is for ``turns:``.
        """
        found: dict[str, Any] = {}
        for url in urls:
            match = _SERVER.fullmatch(url)
            if match is None:
                raise _fault("must be stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT, got a value that is not shown")
            scheme, user, password, host, port, transport = match.groups()
            kind = "stun" if scheme == "stun" else "turn"
            if kind == "turn" and user is None:  # RFC 8656 section 5: servers ask for credentials
                raise _fault(f"must be {scheme}:USER:PASSWORD@HOST:PORT, got no user")
            if port is not None and not 0 < int(port) < 65_536:
                raise _fault(f"must have a port from 1 to 65535, got {port}")
            if transport is not None and f"{scheme}:{transport}" not in _TURN_WAYS:
                raise _fault(f"must have a supported transport; {scheme} over {transport} is not supported")
            if kind in found:
                raise _fault(f"must have one {kind} server at most")
            usual = _DEFAULT_TLS_PORT if scheme == "turns" else _DEFAULT_PORT
            found[kind] = (host.strip("[]"), int(port or usual))
            if kind == "turn":
                found |= {"turn_username": user, "turn_password": password}
                found["turn_transport"] = "tcp" if scheme == "turns" else transport or "udp"
                found["turn_tls"] = tls if scheme == "turns" else None
        return cls(**found)


def _fault(reason: str) -> ConfigError:
    return ConfigError(f"upstream_ice_server: {reason}", param="upstream_ice_server")


class _Connection(aioice.Connection):
    """aioice's agent, on loopback too, that tells when the other side consents to be sent to.

    aioice leaves out loopback, but a server on the same machine may be reachable only there. It also does not tell that
    consent was given, which may be the only sign of life of a server that has nothing to say.
    """

    def __init__(self, on_datagram: Callable[[bytes], None], on_consent: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._on_datagram = on_datagram
        self._on_consent = on_consent

    def data_received(self, data: bytes, component: int) -> None:
        """Hands a datagram over in the socket's own callback; sound waits for the other sockets of the same round."""
        self._on_datagram(data)

    async def query_consent(self) -> None:
        """Asks for consent for as long as the call lasts; whoever watches over the peer knows when it has expired."""
        pair, key = self._nominated[1], str(self.remote_password).encode()
        while True:
            await asyncio.sleep(CONSENT_INTERVAL_S * random.uniform(0.8, 1.2))
            request = self.build_request(pair, nominate=False)
            with suppress(stun.TransactionError):
                await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)
                self._on_consent()

    async def get_component_candidates(self, component: int, addresses: list[str], *rest: Any, **more: Any) -> Any:
        candidates = await super().get_component_candidates(component, [*addresses, "127.0.0.1"], *rest, **more)
        for protocol in self._protocols:
            _take_past_stun(protocol, self._on_datagram)
        return candidates


def _take_past_stun(protocol: Any, on_datagram: Callable[[bytes], None]) -> None:
    """Lets a protocol of aioice parse STUN alone, by the first byte (RFC 7983 section 7).

    By itself it tries to parse each packet of sound as well, and that it fails is what says that it is none.
    """
    take_stun = protocol.datagram_received

    def take(datagram: bytes, address: tuple[Any, ...]) -> None:
        if datagram[:1] > _LAST_STUN:
            on_datagram(datagram)
        else:
            take_stun(datagram, address)

    protocol.datagram_received = take


class IceFull(IceAgent):
    """The controlling agent. ``connect`` finds the way; from then on datagrams go both ways until ``close``."""

    role: ClassVar[IceRole] = IceRole.CONTROLLING

    def __init__(self, servers: IceServers | None = None) -> None:
        super().__init__()
        servers = servers or IceServers()
        self.burst: Burst | None = None
        """The burst that its sound joins; None if each packet is handled by itself."""
        self._connection = _Connection(
            self._receive,
            self._heard,
            ice_controlling=True,
            components=1,
            stun_server=servers.stun,
            turn_server=servers.turn,
            turn_username=servers.turn_username,
            turn_password=servers.turn_password,
            turn_transport=servers.turn_transport,
            turn_ssl=servers.turn_tls,
        )

    async def gather(self) -> tuple[str, str, tuple[str, ...]]:
        """Returns our user fragment, password and candidates, for the offer."""
        await self._connection.gather_candidates()
        candidates = tuple(candidate.to_sdp() for candidate in self._connection.local_candidates)
        return self._connection.local_username, self._connection.local_password, candidates

    async def connect(self, ufrag: str, pwd: str, candidates: list[str]) -> None:
        """Connects to the agent that the answer speaks of; raises ``PeerError``."""
        connection = self._connection
        connection.remote_username, connection.remote_password = ufrag, pwd
        for line in candidates[:_MAX_CANDIDATES]:
            with suppress(ValueError):  # aioice does not know every kind of candidate
                await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
        await connection.add_remote_candidate(None)
        try:
            await connection.connect()
        except ConnectionError as error:
            raise PeerError(f"ICE failed: {error}", code="ice_failed") from error
        self._heard()
        self.connected.set()

    def send_datagram(self, datagram: bytes) -> None:
        """Sends a datagram at once, past aioice's coroutines; before a pair is nominated it is lost."""
        pair = self._connection._nominated.get(1)
        if pair is not None and not self._is_closed:
            pair.protocol.transport.sendto(datagram, pair.remote_addr)

    async def aclose(self) -> None:
        """Closes the sockets."""
        self.close()
        await self._connection.close()

    def _heard(self) -> None:
        self.last_authenticated = self.last_consent = asyncio.get_running_loop().time()

    def _receive(self, datagram: bytes) -> None:
        kind = packet_kind(datagram)
        if kind is None or self._is_closed:
            return
        loop = asyncio.get_running_loop()
        if kind is _RTP and self.media is not None and self.burst is not None:
            self.burst.receive_soon(self.media, datagram, loop)
        else:
            self.hand_over(kind, datagram, loop.time())
