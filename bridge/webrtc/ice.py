"""Where a peer's datagrams come from and go to.

An agent is what aiortc's DTLS calls a transport: it has a ``role``, ``_recv`` and ``_send``. Only DTLS goes through its
queue and a task, and takes its turns (see ``bridge.turns``): a data channel has the share of the time that a
socket has. SRTP is handed over in the datagram callback itself. ``IceLite`` answers peers on the bridge's shared
socket (RFC 8445 section 2.5); ``IceFull`` in ``ice_full`` is for the calls that we dial.

Whoever is sent to has to consent, again and again (RFC 7675). Most peers say so by their own checks; libnice checks an
ICE-lite side once, and a browser's page in the background does it rarely. A peer whose consent grows old is asked.

A peer behind a NAT may turn up at another address at any time, seconds before its next check. Its packets are taken at
once, for only it can have encrypted them; what is sent follows as soon as the peer has answered a check of ours from
there, because an address in a packet proves nothing.
"""

import asyncio
import enum
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from aioice import stun

from bridge.turns import Work

__all__ = [
    "CONSENT_INTERVAL_S",
    "MAX_DATAGRAM_BYTES",
    "TCP",
    "Address",
    "AgentTable",
    "Credentials",
    "IceAgent",
    "IceLite",
    "IceRole",
    "PacketHandler",
    "PacketKind",
    "Sender",
    "packet_kind",
]

Address = tuple[Any, ...]
"""As sockets have it: (host, port), for IPv6 (host, port, flow, scope); of a TCP connection (host, port, ``"tcp"``)."""


TCP = "tcp"
"""Ends the address of a connection, so that it is never that of a UDP socket."""


class PacketKind(enum.Enum):
    """What a datagram is to those that share a transport (RFC 7983)."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"


class IceRole(enum.StrEnum):
    """Who of two agents nominates (RFC 8445 section 6.1.1); aiortc compares the words."""

    CONTROLLED = "controlled"
    CONTROLLING = "controlling"


PacketHandler = Callable[[PacketKind, bytes, float], bool]
"""Takes the kind of a packet, the packet, and now; says whether the packet was the peer's."""
Sender = Callable[[bytes, Address], None]
"""Sends a datagram to an address, or loses it."""

MAX_DATAGRAM_BYTES = 1500
"""What is longer is none of ours."""
_QUEUED_DTLS = 512  # datagrams; more than our SCTP window of 1,200-byte packets
_ROAM_AFTER_S = 1.0  # a checked address takes over from one that has been silent for so long
_PROBE_AGAIN_S = 0.1
_MAX_PROBES = 8  # that wait for their answers
CONSENT_INTERVAL_S = 5.0
"""Between two requests for consent (RFC 7675 section 5.1)."""
_EARLIEST, _LATEST = 0.8, 1.2  # times that, by chance, so that many calls do not ask at once
_PROBE_PRIORITY = 126 << 24 | 255  # of no consequence: the peer has the pair already


# Members of an enum are slow to look up by name, and there is one look-up for each packet.
_RTP, _RTCP, _DTLS, _STUN = PacketKind.RTP, PacketKind.RTCP, PacketKind.DTLS, PacketKind.STUN


def packet_kind(datagram: bytes) -> PacketKind | None:
    """What a datagram is, by its first bytes (RFC 7983 section 7, RFC 5761 section 4); None if it is nothing."""
    if not 0 < len(datagram) <= MAX_DATAGRAM_BYTES:
        return None
    first = datagram[0]
    if 127 < first < 192:
        return None if len(datagram) < 8 else _RTCP if 192 <= datagram[1] <= 223 else _RTP
    if 19 < first < 64:
        return _DTLS
    return _STUN if first < 4 else None


class _DtlsQueue:
    """One peer's datagrams for DTLS; ``get`` gives them one by one, and a share of the time to what each sets off."""

    def __init__(self) -> None:
        self.dropped = 0
        self._datagrams: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_DTLS)
        self._work: Work | None = None
        """What the peer's datagrams make DTLS, SCTP and whoever takes its events do."""

    def put(self, datagram: bytes) -> None:
        """Takes a datagram, or counts it as dropped."""
        if self._datagrams.full():
            self.dropped += 1
        else:
            self._datagrams.put_nowait(datagram)

    async def get(self) -> bytes:
        """The next one, when it is the peer's turn; raises ``ConnectionError`` at the end."""
        work = self._work
        if work is None:
            work = self._work = Work(asyncio.get_running_loop())
        await work.rest()  # all that the last one has brought is done
        work.end()
        datagram = await self._datagrams.get()
        work.begin()
        if datagram is None:
            self._datagrams.put_nowait(None)
            raise ConnectionError("the ICE agent is closed")
        return datagram

    def close(self) -> None:
        """Ends every wait."""
        if self._datagrams.full():
            self._datagrams.get_nowait()
        self._datagrams.put_nowait(None)


class IceAgent:
    """One peer's agent. ``connected`` is set by the first check that succeeds, or by ``close``."""

    role: ClassVar[IceRole] = IceRole.CONTROLLED

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.last_authenticated: float | None = None
        self.last_consent: float | None = None
        """When the peer last said that it may be sent to (RFC 7675)."""
        self.moves = 0
        self._on_media: PacketHandler = lambda kind, packet, now: False
        self._dtls = _DtlsQueue()
        self._is_closed = False

    def attach(self, on_media: PacketHandler) -> None:
        """From now on ``on_media`` gets SRTP and SRTCP packets."""
        self._on_media = on_media

    def hand_over(self, kind: PacketKind, datagram: bytes, now: float) -> None:
        """A datagram of the peer that is not STUN."""
        if kind is _DTLS:
            self._dtls.put(datagram)
        else:
            self._on_media(kind, datagram, now)

    @property
    def dropped(self) -> int:
        """Datagrams of DTLS that came faster than they were taken."""
        return self._dtls.dropped

    def claim(self, ssrc: bytes) -> None:
        """The peer's packets have this SSRC, by which they are known on a socket that others share."""

    def release(self, ssrc: bytes) -> None:
        """No more packets of the peer's have this SSRC."""

    def keep_consent(self, now: float) -> None:
        """Every second: asks the peer whether it may still be sent to, if that is due."""

    def send(self, datagram: bytes) -> None:
        """To where the peer is now; before its first check, nowhere."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends every wait; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.connected.set()
        self._dtls.close()

    # What aiortc's DTLS transport calls

    async def _recv(self) -> bytes:
        """The next datagram; a peer whose datagrams have cost more than a share waits for its turn."""
        return await self._dtls.get()

    async def _send(self, datagram: bytes) -> None:
        self.send(datagram)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Both halves; a new pair with each ICE restart (RFC 8445 section 9)."""

    ufrag: str
    pwd: str
    remote_ufrag: str = ""
    remote_pwd: str = ""

    @classmethod
    def new(cls, remote_ufrag: str = "", remote_pwd: str = "") -> "Credentials":
        """With our half of it made by chance."""
        return cls(secrets.token_hex(4), secrets.token_hex(16), remote_ufrag, remote_pwd)


class AgentTable(Protocol):
    """By what the agents of one socket are found: credentials, SSRCs, addresses."""

    def sender_for(self, address: Address) -> Sender:
        """What sends to this address."""
        ...

    def know(self, agent: "IceLite", ufrag: str) -> None:
        """Checks with this user fragment are the agent's."""
        ...

    def forget_ufrag(self, ufrag: str) -> None:
        """They are nobody's any more."""
        ...

    def claim(self, agent: "IceLite", ssrc: bytes) -> None:
        """Packets with this SSRC may be the agent's."""
        ...

    def release(self, agent: "IceLite", ssrc: bytes) -> None:
        """They are not any more."""
        ...

    def forget(self, agent: "IceLite") -> None:
        """The agent is closed."""
        ...


class _Requests:
    """An agent's own checks: whether the peer is at an address, and whether it may still be sent to (RFC 7675)."""

    def __init__(self) -> None:
        self._open: dict[bytes, Address] = {}
        """Those that were not answered yet, by transaction, and where they went."""
        self._asked: tuple[Address, float] | None = None
        """The last address that was unknown, and when it was asked."""
        self._ask_at = 0.0

    def is_due_at(self, address: Address, now: float) -> bool:
        """An address that is not known is to be asked, which it was not a moment ago."""
        if self._asked is not None and self._asked[0] == address and now - self._asked[1] < _PROBE_AGAIN_S:
            return False
        self._asked = address, now
        return True

    def is_consent_due(self, last_consent: float, now: float) -> bool:
        """The peer has not said for a while that it may be sent to."""
        if now < max(self._ask_at, last_consent + _EARLIEST * CONSENT_INTERVAL_S):
            return False
        self._ask_at = now + CONSENT_INTERVAL_S * random.uniform(_EARLIEST, _LATEST)
        return True

    def new(self, ours: "Credentials", address: Address) -> bytes | None:
        """A request to ``address``; None while the peer's half of the credentials is not known."""
        if not ours.remote_ufrag:
            return None
        transaction_id = ours.ufrag.encode() + secrets.token_bytes(4)
        request = stun.Message(
            message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST, transaction_id=transaction_id
        )
        request.attributes["USERNAME"] = f"{ours.remote_ufrag}:{ours.ufrag}"
        request.attributes["PRIORITY"] = _PROBE_PRIORITY
        request.attributes["ICE-CONTROLLED"] = 0  # the lowest: whoever else wants to be controlled is not in our way
        request.add_message_integrity(ours.remote_pwd.encode())
        request.add_fingerprint()
        while len(self._open) >= _MAX_PROBES:
            del self._open[next(iter(self._open))]
        self._open[transaction_id] = address
        return bytes(request)

    def take_answer(self, response: stun.Message, address: Address, ours: "Credentials") -> bool:
        """Whether the peer, and nobody else, answers a request from where it was sent to."""
        if self._open.get(response.transaction_id) != address:
            return False
        if not response.check_message_integrity(ours.remote_pwd.encode()):
            return False
        del self._open[response.transaction_id]
        return True


def _is_worse(address: Address, current: Address) -> bool:
    """TCP, where there is UDP."""
    return bool(address[-1] == TCP and current[-1] != TCP)


class IceLite(IceAgent):
    """Answers the checks of a peer on the shared socket; found there by the local half of its credentials.

    After a restart there are two pairs, until the peer has come with the new one: so long the old way works.
    """

    def __init__(self, table: AgentTable) -> None:
        super().__init__()
        self.credentials = Credentials.new()
        self.renewed: Credentials | None = None
        """Of a restart whose peer has not come yet."""
        self.addresses: dict[Address, None] = {}  # in the order of their last check
        self._address: Address | None = None
        self._address_heard = 0.0
        self._send_datagram: Sender | None = None
        """What sends to ``_address``."""
        self._requests = _Requests()
        self._table = table
        table.know(self, self.ufrag)

    @property
    def ufrag(self) -> str:
        """Our user fragment."""
        return self.credentials.ufrag

    @property
    def pwd(self) -> str:
        """Our password."""
        return self.credentials.pwd

    @property
    def newest(self) -> Credentials:
        """Of the last restart, whether or not its peer has come."""
        return self.renewed or self.credentials

    def expect(self, ufrag: str, pwd: str) -> None:
        """The peer's half of the credentials, with which it answers our checks."""
        self.credentials = replace(self.credentials, remote_ufrag=ufrag, remote_pwd=pwd)

    def offered(self, ufrag: str, pwd: str) -> Credentials:
        """What answers an offer with these: the pair that has them, else a new one, to which the peer may change."""
        for known in (self.renewed, self.credentials):
            if known is not None and (known.remote_ufrag, known.remote_pwd) == (ufrag, pwd):
                return known
        if self.renewed is not None:
            self._table.forget_ufrag(self.renewed.ufrag)
        self.renewed = Credentials.new(ufrag, pwd)
        self._table.know(self, self.renewed.ufrag)
        return self.renewed

    def password(self, ufrag: str) -> str:
        """The one that goes with our user fragment ``ufrag``, which is one of ours."""
        return self.renewed.pwd if self.renewed is not None and self.renewed.ufrag == ufrag else self.pwd

    def claim(self, ssrc: bytes) -> None:
        """The peer's packets have this SSRC, by which they are known wherever they come from."""
        self._table.claim(self, ssrc)

    def release(self, ssrc: bytes) -> None:
        """No more packets of the peer's have this SSRC."""
        self._table.release(self, ssrc)

    def checked(self, address: Address, *, nominated: bool, now: float, ufrag: str | None = None) -> None:
        """An authenticated check came from ``address``; the peer is there if it says so or is nowhere else.

        A peer that nominates each pair as it checks it (Firefox) comes over TCP last, and means UDP: the pair with the
        highest priority counts (RFC 8445 section 8.1.1), not the last one.
        ``ufrag`` is ours, to which it came: when the peer is there with that of a restart, the old one is forgotten.
        """
        self.last_authenticated = self.last_consent = now
        current = self._address
        if address == current:
            self._address_heard = now
        elif (
            current is None
            or now - self._address_heard >= _ROAM_AFTER_S
            or (nominated and not _is_worse(address, current))
        ):
            self.moves += current is not None
            self._address, self._address_heard = address, now
            self._send_datagram = self._table.sender_for(address)
        if self.renewed is not None and ufrag == self.renewed.ufrag and address == self._address:
            self._table.forget_ufrag(self.ufrag)
            self.credentials, self.renewed = self.renewed, None
        self.connected.set()

    def left(self, address: Address) -> None:
        """The peer's connection from ``address`` is gone; until its next check, from wherever, nothing is sent."""
        self.addresses.pop(address, None)
        if address == self._address:
            self._address = self._send_datagram = None

    def is_at(self, address: Address, now: float) -> bool:
        """The peer is there, and was heard from there a moment ago."""
        return address == self._address and now - self._address_heard < _ROAM_AFTER_S

    def receive_datagram(self, kind: PacketKind, datagram: bytes, address: Address, now: float) -> None:
        """A datagram that is not STUN, from one of the agent's addresses."""
        if address == self._address:
            self._address_heard = now
        self.hand_over(kind, datagram, now)

    def receive_from_elsewhere(self, datagram: bytes, address: Address, now: float) -> bool:
        """An SRTP packet from an address that is not known as the peer's; if it is the peer's own, asks it there."""
        if not self._on_media(_RTP, datagram, now):
            return False
        if self._requests.is_due_at(address, now):
            self._ask(address)
        return True

    def keep_consent(self, now: float) -> None:
        """Every second: a peer that has not said for a while that it may be sent to is asked."""
        if self._address is None or self.last_consent is None:
            return
        if self._requests.is_consent_due(self.last_consent, now):
            self._ask(self._address)

    def is_answer(self, response: stun.Message, address: Address) -> bool:
        """Whether the peer, and nobody else, answers our check from where it was sent to."""
        return self._requests.take_answer(response, address, self.credentials)

    def _ask(self, address: Address) -> None:
        request = self._requests.new(self.credentials, address)
        if request is not None:
            self._table.sender_for(address)(request, address)

    def send(self, datagram: bytes) -> None:
        """To where the peer is now; before its first check, nowhere."""
        if self._send_datagram is not None and self._address is not None:
            self._send_datagram(datagram, self._address)

    def close(self) -> None:
        """Ends every wait and leaves the socket; may be called twice."""
        super().close()
        self._table.forget(self)
