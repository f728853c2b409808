"""Where a peer's datagrams come from and go to.

An agent is what aiortc's DTLS calls a transport: it has a ``role``, ``_recv`` and ``_send``. Only DTLS goes through its
queue and a task, and takes its turns (see ``bridge.turns``): a data channel has the share of the time that a socket
has. SRTP is handed over without a queue or a task, in bursts (see ``bridge.burst``) or packet by packet.
``IceLite`` answers peers on the bridge's shared socket (RFC 8445 section 2.5); ``IceFull`` in ``ice_full`` is for the
calls that we dial.

A peer has to consent to what we send it, again and again (RFC 7675). Most peers do so by their own checks; libnice
checks an ICE-lite side once, and a browser's page in the background does it rarely. So a peer whose consent grows old
is asked.

A peer behind a NAT may turn up at another address at any time, seconds before its next check. Its packets are taken at
once, because only it can have encrypted them. What we send goes there as soon as the peer has answered a check of ours
from there, because an address in a packet proves nothing.
"""

import asyncio
import enum
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from aioice import stun

from bridge.burst import MediaReceiver
from bridge.turns import Work

__all__ = [
    "CONSENT_INTERVAL_S",
    "MAX_DATAGRAM_BYTES",
    "TCP",
    "Address",
    "AgentTable",
    "Credentials",
    "DtlsQueue",
    "IceAgent",
    "IceLite",
    "IceRole",
    "MediaHandler",
    "PacketKind",
    "Sender",
    "packet_kind",
]

Address = tuple[Any, ...]
"""An address as sockets have it: (host, port), for IPv6 (host, port, flow, scope).

For a TCP connection it is (host, port, ``"tcp"``).
"""


TCP = "tcp"
"""The end of a connection's address, so that it never equals that of a UDP socket."""


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


Sender = Callable[[bytes, Address], None]
"""Sends a datagram to an address, or loses it."""

MAX_DATAGRAM_BYTES = 1500
"""The longest datagram that is taken; a longer one is not for us."""
_QUEUED_DTLS = 512  # datagrams; more than our SCTP window of 1,200-byte packets
_ROAM_AFTER_S = 1.0  # a checked address takes over from one that has been silent for so long
_PROBE_AGAIN_S = 0.1
_MAX_PROBES = 8  # that wait for their answers
CONSENT_INTERVAL_S = 5.0
"""The time between two requests for consent (RFC 7675 section 5.1)."""
_EARLIEST, _LATEST = 0.8, 1.2  # times that, at random, so that many calls do not ask at once
_PROBE_PRIORITY = 126 << 24 | 255  # of no consequence: the peer has the pair already


# Members of an enum are slow to look up by name, and there is one look-up for each packet.
_RTP, _RTCP, _DTLS, _STUN = PacketKind.RTP, PacketKind.RTCP, PacketKind.DTLS, PacketKind.STUN


def packet_kind(datagram: bytes) -> PacketKind | None:
    """Returns the kind of a datagram, by its first bytes (RFC 7983 section 7, RFC 5761 section 4).

    None if it has none.
    """
    if not 0 < len(datagram) <= MAX_DATAGRAM_BYTES:
        return None
    first = datagram[0]
    if 127 < first < 192:
        return None if len(datagram) < 8 else _RTCP if 192 <= datagram[1] <= 223 else _RTP
    if 19 < first < 64:
        return _DTLS
    return _STUN if first < 4 else None


class MediaHandler(MediaReceiver, Protocol):
    """Takes one peer's SRTP and SRTCP packets: each by itself, or in steps with others of its burst."""

    def receive_srtp(self, kind: PacketKind, datagram: bytes, now: float) -> bool:
        """Takes one packet; returns whether it is the peer's own."""
        ...


class DtlsQueue:
    """One peer's datagrams for DTLS; ``get`` returns them one by one.

    The work that each one sets off takes from the peer's share of the time.
    """

    def __init__(self) -> None:
        self.dropped = 0
        """The number of datagrams that came faster than they were taken."""
        self._datagrams: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_DTLS)
        self._work: Work | None = None
        """The work that the peer's datagrams cause in DTLS, SCTP and whoever takes its events."""

    def __len__(self) -> int:
        """The number of datagrams that wait to be taken."""
        return self._datagrams.qsize()

    def put(self, datagram: bytes) -> None:
        """Takes a datagram, or counts it as dropped."""
        if self._datagrams.full():
            self.dropped += 1
        else:
            self._datagrams.put_nowait(datagram)

    async def get(self) -> bytes:
        """Returns the next datagram as soon as it is the peer's turn; raises ``ConnectionError`` at the end."""
        work = self._work
        if work is None:
            work = self._work = Work(asyncio.get_running_loop())
        await work.rest()  # all work that the last datagram has caused is done
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
        """The time when the peer last said that it may be sent to (RFC 7675)."""
        self.moves = 0
        self.media: MediaHandler | None = None
        """Who takes SRTP and SRTCP packets."""
        self.dtls = DtlsQueue()
        """The datagrams for DTLS that the peer has sent."""
        self._is_closed = False

    def attach(self, media: MediaHandler) -> None:
        """From now on ``media`` gets SRTP and SRTCP packets."""
        self.media = media

    def hand_over(self, kind: PacketKind, datagram: bytes, now: float) -> None:
        """Takes a datagram of the peer that is not STUN."""
        if kind is _DTLS:
            self.dtls.put(datagram)
        elif self.media is not None:
            self.media.receive_srtp(kind, datagram, now)

    @property
    def dropped(self) -> int:
        """The number of DTLS datagrams that came faster than they were taken."""
        return self.dtls.dropped

    def claim(self, ssrc: bytes) -> None:
        """Notes that the peer's packets have this SSRC, by which they are known on a socket that others share."""

    def release(self, ssrc: bytes) -> None:
        """Notes that no more packets of the peer's have this SSRC."""

    def keep_consent(self, now: float) -> None:
        """Asks the peer whether it may still be sent to, if that is due; called every second."""

    def send_datagram(self, datagram: bytes) -> None:
        """Sends a datagram to where the peer is now; before the peer's first check it is lost."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends every wait; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.connected.set()
        self.dtls.close()

    # What aiortc's DTLS transport calls:

    async def _recv(self) -> bytes:
        """Returns the next datagram; a peer whose datagrams have cost more than a share waits for its turn."""
        return await self.dtls.get()

    async def _send(self, datagram: bytes) -> None:
        self.send_datagram(datagram)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Both halves of the ICE credentials; there is a new pair with each ICE restart (RFC 8445 section 9)."""

    ufrag: str
    pwd: str
    remote_ufrag: str = ""
    remote_pwd: str = ""

    @classmethod
    def new(cls, remote_ufrag: str = "", remote_pwd: str = "") -> "Credentials":
        """Makes credentials whose local half is random."""
        return cls(secrets.token_hex(4), secrets.token_hex(16), remote_ufrag, remote_pwd)


class AgentTable(Protocol):
    """The table by which the agents of one socket are found: credentials, SSRCs, addresses."""

    def sender_for(self, address: Address) -> Sender:
        """Returns what sends to this address."""
        ...

    def know(self, agent: "IceLite", ufrag: str) -> None:
        """From now on checks with this user fragment are the agent's."""
        ...

    def forget_ufrag(self, ufrag: str) -> None:
        """From now on checks with this user fragment are nobody's."""
        ...

    def claim(self, agent: "IceLite", ssrc: bytes) -> None:
        """From now on packets with this SSRC may be the agent's."""
        ...

    def release(self, agent: "IceLite", ssrc: bytes) -> None:
        """From now on packets with this SSRC are not the agent's."""
        ...

    def forget(self, agent: "IceLite") -> None:
        """Removes an agent that is closed."""
        ...


class _Requests:
    """An agent's own checks: whether the peer is at an address, and whether it may still be sent to (RFC 7675)."""

    def __init__(self) -> None:
        self._open: dict[bytes, Address] = {}
        """The requests that were not answered yet, by transaction, and where they went."""
        self._asked: tuple[Address, float] | None = None
        """The last unknown address that was asked, and when it was asked."""
        self._ask_at = 0.0

    def is_due_at(self, address: Address, now: float) -> bool:
        """Whether an address that is not known is to be asked, because it was not asked a moment ago."""
        if self._asked is not None and self._asked[0] == address and now - self._asked[1] < _PROBE_AGAIN_S:
            return False
        self._asked = address, now
        return True

    def is_consent_due(self, last_consent: float, now: float) -> bool:
        """Whether the peer has not said for a while that it may be sent to."""
        if now < max(self._ask_at, last_consent + _EARLIEST * CONSENT_INTERVAL_S):
            return False
        self._ask_at = now + CONSENT_INTERVAL_S * random.uniform(_EARLIEST, _LATEST)
        return True

    def new(self, ours: "Credentials", address: Address) -> bytes | None:
        """Returns a request to ``address``; None if the peer's half of the credentials is not known yet."""
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
        """Whether this is an answer of the peer, and of nobody else, from where a request was sent to."""
        if self._open.get(response.transaction_id) != address:
            return False
        if not response.check_message_integrity(ours.remote_pwd.encode()):
            return False
        del self._open[response.transaction_id]
        return True


def _is_worse(address: Address, current: Address) -> bool:
    """Whether ``address`` is TCP and ``current`` is UDP."""
    return bool(address[-1] == TCP and current[-1] != TCP)


class IceLite(IceAgent):
    """The agent that answers the checks of a peer on the shared socket.

    It is found there by the local half of its credentials. After a restart there are two pairs, until the peer has come
    with the new one: until then the old way works.
    """

    def __init__(self, table: AgentTable) -> None:
        super().__init__()
        self.credentials = Credentials.new()
        self.renewed: Credentials | None = None
        """The credentials of a restart whose peer has not come yet."""
        self.addresses: dict[Address, None] = {}  # in the order of their last check
        self._address: Address | None = None
        self._address_heard = 0.0
        self._send_datagram: Sender | None = None
        """The function that sends to ``_address``."""
        self._requests = _Requests()
        self._table = table
        table.know(self, self.ufrag)

    @property
    def address(self) -> Address | None:
        """Where the peer is sent to now; None before its first check, and when its connection is gone."""
        return self._address

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
        """The credentials of the last restart, whether or not its peer has come."""
        return self.renewed or self.credentials

    def expect(self, ufrag: str, pwd: str) -> None:
        """Takes the peer's half of the credentials, with which it answers our checks."""
        self.credentials = replace(self.credentials, remote_ufrag=ufrag, remote_pwd=pwd)

    def offered(self, ufrag: str, pwd: str) -> Credentials:
        """Returns the credentials that answer an offer with these ones.

        They are those of the pair that has them, else new ones, to which the peer may change.
        """
        for known in (self.renewed, self.credentials):
            if known is not None and (known.remote_ufrag, known.remote_pwd) == (ufrag, pwd):
                return known
        if self.renewed is not None:
            self._table.forget_ufrag(self.renewed.ufrag)
        self.renewed = Credentials.new(ufrag, pwd)
        self._table.know(self, self.renewed.ufrag)
        return self.renewed

    def password(self, ufrag: str) -> str:
        """Returns the password that goes with our user fragment ``ufrag``, which is one of ours."""
        return self.renewed.pwd if self.renewed is not None and self.renewed.ufrag == ufrag else self.pwd

    def claim(self, ssrc: bytes) -> None:
        """Notes that the peer's packets have this SSRC, by which they are known wherever they come from."""
        self._table.claim(self, ssrc)

    def release(self, ssrc: bytes) -> None:
        """Notes that no more packets of the peer's have this SSRC."""
        self._table.release(self, ssrc)

    def checked(self, address: Address, *, nominated: bool, now: float, ufrag: str | None = None) -> None:
        """Notes an authenticated check from ``address``; the peer is there if it says so or is nowhere else.

        A peer that nominates each pair as it checks it (Firefox) comes over TCP last, and means UDP: the pair with the
        highest priority counts (RFC 8445 section 8.1.1), not the last one. ``ufrag`` is the fragment of ours to which
        the check came. If it is that of a restart and the peer is there, the old one is forgotten.
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
        """Notes that the peer's connection from ``address`` is gone.

        Until the peer's next check, from wherever, nothing is sent.
        """
        self.addresses.pop(address, None)
        if address == self._address:
            self._address = self._send_datagram = None

    def is_at(self, address: Address, now: float) -> bool:
        """Whether the peer is there, and was heard from there a moment ago."""
        return address == self._address and now - self._address_heard < _ROAM_AFTER_S

    def hear_from(self, address: Address, now: float) -> None:
        """Notes that a datagram came from one of the agent's addresses."""
        if address == self._address:
            self._address_heard = now

    def receive_datagram(self, kind: PacketKind, datagram: bytes, address: Address, now: float) -> None:
        """Takes a datagram that is not STUN, from one of the agent's addresses."""
        self.hear_from(address, now)
        self.hand_over(kind, datagram, now)

    def receive_from_elsewhere(self, datagram: bytes, address: Address, now: float) -> bool:
        """Takes an SRTP packet from an address that is not known as the peer's.

        If the packet is the peer's own, asks the peer there whether it has moved.
        """
        if self.media is None or not self.media.receive_srtp(_RTP, datagram, now):
            return False
        if self._requests.is_due_at(address, now):
            self._ask(address)
        return True

    def keep_consent(self, now: float) -> None:
        """Asks a peer that has not said for a while that it may be sent to; called every second."""
        if self._address is None or self.last_consent is None:
            return
        if self._requests.is_consent_due(self.last_consent, now):
            self._ask(self._address)

    def is_answer(self, response: stun.Message, address: Address) -> bool:
        """Whether this is an answer of the peer, and of nobody else, to our check, from where that was sent to."""
        return self._requests.take_answer(response, address, self.credentials)

    def _ask(self, address: Address) -> None:
        request = self._requests.new(self.credentials, address)
        if request is not None:
            self._table.sender_for(address)(request, address)

    def send_datagram(self, datagram: bytes) -> None:
        """Sends a datagram to where the peer is now; before the peer's first check it is lost."""
        if self._send_datagram is not None and self._address is not None:
            self._send_datagram(datagram, self._address)

    def close(self) -> None:
        """Ends every wait and leaves the socket; may be called twice."""
        super().close()
        self._table.forget(self)
