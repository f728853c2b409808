"""One UDP socket, and one TCP port if wanted, for the media of all calls: who a datagram belongs to.

A STUN binding request finds its agent by the local half of its USERNAME and is answered if its MESSAGE-INTEGRITY is
right (RFC 8445 section 7.3); only then does its source address belong to that agent. Any other datagram finds its agent
by source address alone, so nothing that a stranger sends ever reaches DTLS or SCTP. The one exception is sound with a
known SSRC: SRTP says whether it is that peer's, which then is at another address. A datagram that fits nowhere is
counted and dropped.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from aioice import stun

from bridge.burst import Burst
from bridge.webrtc.forwarding import DatagramForwarder
from bridge.webrtc.ice import TCP, Address, IceLite, PacketKind, Sender, packet_kind
from bridge.webrtc.tcp import IceTcp

__all__ = ["Mux"]

_STUN, _RTP = PacketKind.STUN, PacketKind.RTP
_MAX_SAME_SSRC = 4  # agents that claim the same SSRC; by chance two do so once in 2**32
_MAX_ADDRESSES = 16  # addresses of one agent: the pairs of a peer with several interfaces


class Mux(asyncio.DatagramProtocol):
    """The socket of all media. ``drops`` counts what was thrown away, by reason."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.drops: Counter[str] = Counter()
        self.forwarder: DatagramForwarder | None = None
        """The older processes that shared this socket; what nobody here knows may be theirs."""
        self._clock = clock
        self._agents: dict[str, IceLite] = {}
        self._by_address: dict[Address, IceLite] = {}
        self._by_ssrc: dict[bytes, list[IceLite]] = {}
        self.agents: Mapping[str, IceLite] = MappingProxyType(self._agents)
        """Whose checks are answered, by our user fragment: one entry for each agent, two while it restarts."""
        self.by_address: Mapping[Address, IceLite] = MappingProxyType(self._by_address)
        """Whose datagrams come from where: up to 16 addresses of each agent."""
        self.by_ssrc: Mapping[bytes, Sequence[IceLite]] = MappingProxyType(self._by_ssrc)
        """Who may be the sender of an SSRC, if its packets come from an address that is nobody's."""
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp: IceTcp | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Notes that the socket is bound."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def error_received(self, exc: Exception) -> None:
        """Ignores an ICMP error or a full buffer: the packet is lost, which everything above expects of UDP."""
        self.drops["send_error"] += 1

    def new_tcp(self, *, check_within_s: float) -> IceTcp:
        """Makes a TCP port beside the socket; it closes with the socket."""
        self._tcp = IceTcp(self.datagram_received, self._connection_ended, self.drops, check_within_s=check_within_s)
        return self._tcp

    def new_agent(self) -> IceLite:
        """Makes an agent on this socket, which is there until it is closed."""
        return IceLite(self)

    def sender_for(self, address: Address) -> Sender:
        """Returns what sends to this address: the socket, or the connection itself.

        Before the socket is bound, nothing is sent.
        """
        if address[-1] == TCP:
            line = self._tcp.lines.get(address) if self._tcp is not None else None
            return self._lose if line is None else line.sendto
        return self._lose if self._transport is None else self._transport.sendto

    @staticmethod
    def _lose(datagram: bytes, address: Address) -> None:
        """Loses a datagram."""

    def receive_burst(self, datagrams: Sequence[tuple[bytes, Address]], burst: Burst) -> None:
        """Takes datagrams that came together: adds the sound of known peers to ``burst``, and handles the rest."""
        now, agent_at = self._clock(), self._by_address.get
        for data, addr in datagrams:
            agent = agent_at(addr)
            if agent is None or agent.media is None or packet_kind(data) is not _RTP:
                self.datagram_received(data, addr)
            else:
                agent.hear_from(addr, now)
                burst.add_received(agent.media, data)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Takes one datagram, from anyone."""
        kind = packet_kind(data)
        if kind is _STUN:
            self._check(data, addr)
            return
        agent = self._by_address.get(addr)
        if agent is None or kind is None:
            if kind is _RTP and self._has_moved(data, addr):
                return
            if kind is None or not self._forwards(data, addr):
                self.drops["unknown_source" if kind else "unknown_kind"] += 1
            return
        agent.receive_datagram(kind, data, addr, self._clock())

    def stop_listening(self) -> None:
        """Takes no more connections on the TCP port."""
        if self._tcp is not None:
            self._tcp.stop_listening()

    def close(self) -> None:
        """Closes the socket, and the TCP port."""
        if self.forwarder is not None:
            self.forwarder.close()
        if self._tcp is not None:
            self._tcp.close()
        if self._transport is not None:
            self._transport.close()

    # AgentTable

    def know(self, agent: IceLite, ufrag: str) -> None:
        """From now on checks with this user fragment are the agent's."""
        self._agents[ufrag] = agent

    def forget_ufrag(self, ufrag: str) -> None:
        """From now on checks with this user fragment are nobody's."""
        self._agents.pop(ufrag, None)

    def forget(self, agent: IceLite) -> None:
        """Removes an agent that is closed."""
        for credentials in (agent.credentials, agent.renewed):
            if credentials is not None:
                self._agents.pop(credentials.ufrag, None)
        for address in agent.addresses:
            if self._by_address.get(address) is agent:
                self._leave(address)
        agent.addresses.clear()
        for ssrc in [ssrc for ssrc, agents in self._by_ssrc.items() if agent in agents]:
            self.release(agent, ssrc)

    def claim(self, agent: IceLite, ssrc: bytes) -> None:
        """From now on packets with this SSRC may be the agent's, wherever they come from."""
        agents = self._by_ssrc.setdefault(ssrc, [])
        if agent not in agents and len(agents) < _MAX_SAME_SSRC:
            agents.append(agent)

    def release(self, agent: IceLite, ssrc: bytes) -> None:
        """From now on packets with this SSRC are not the agent's."""
        agents = self._by_ssrc.get(ssrc, [])
        if agent in agents:
            agents.remove(agent)
            if not agents:
                del self._by_ssrc[ssrc]

    # Inside

    def _forwards(self, datagram: bytes, addr: Address) -> bool:
        """Forwards a datagram to older processes; False if there are none, or it came over a connection."""
        return self.forwarder is not None and addr[-1] != TCP and self.forwarder.forward(datagram, addr)

    def _admit(self, agent: IceLite, addr: Address) -> None:
        """From now on ``addr`` is the agent's; of too many, the one that was checked longest ago makes room."""
        agent.addresses.pop(addr, None)
        if len(agent.addresses) >= _MAX_ADDRESSES:
            oldest = next(iter(agent.addresses))
            del agent.addresses[oldest]
            if self._by_address.get(oldest) is agent:
                self._leave(oldest)
        agent.addresses[addr] = None
        self._by_address[addr] = agent
        if self._tcp is not None and addr[-1] == TCP:
            self._tcp.admit(addr)

    def _leave(self, address: Address) -> None:
        """From now on the address is nobody's."""
        del self._by_address[address]
        if self._tcp is not None and address[-1] == TCP:
            self._tcp.close_line(address)

    def _connection_ended(self, address: Address) -> None:
        agent = self._by_address.pop(address, None)
        if agent is not None:
            agent.left(address)

    def _has_moved(self, packet: bytes, addr: Address) -> bool:
        """Whether the packet is from a peer that was at another address until now."""
        now = self._clock()
        return any(agent.receive_from_elsewhere(packet, addr, now) for agent in self._by_ssrc.get(packet[8:12], ()))

    def _check(self, data: bytes, addr: Address) -> None:
        try:
            request = stun.parse_message(data)
        except (ValueError, struct.error, IndexError):
            self.drops["bad_stun"] += 1
            return
        if request.message_class == stun.Class.RESPONSE:
            self._take_answer(request, data, addr)
            return
        if request.message_class != stun.Class.REQUEST or request.message_method != stun.Method.BINDING:
            self.drops["other_stun"] += 1
            return
        ufrag = request.attributes.get("USERNAME", "").partition(":")[0]
        agent = self._agents.get(ufrag)
        key = agent.password(ufrag).encode() if agent is not None else b""
        if agent is None or not request.check_message_integrity(key):
            if agent is not None or not self._forwards(data, addr):
                self.drops["unauthenticated_stun"] += 1
            return
        holder = self._by_address.get(addr)
        if holder is not None and holder is not agent and holder.is_at(addr, self._clock()):
            self.drops["address_in_use"] += 1  # a forged source must not divert somebody else's media
            return
        self._admit(agent, addr)
        self.sender_for(addr)(_answer(request, key, addr), addr)
        if "ICE-CONTROLLED" not in request.attributes:
            is_nominated = "USE-CANDIDATE" in request.attributes
            agent.checked(addr, nominated=is_nominated, now=self._clock(), ufrag=ufrag)

    def _take_answer(self, response: stun.Message, data: bytes, addr: Address) -> None:
        """Takes the answer to a check of ours, whose transaction id begins with its agent's fragment."""
        agent = self._agents.get(response.transaction_id[:8].decode("latin-1"))
        if agent is None or not agent.is_answer(response, addr):
            if agent is not None or not self._forwards(data, addr):
                self.drops["other_stun"] += 1
            return
        self._admit(agent, addr)
        agent.checked(addr, nominated=True, now=self._clock())


def _answer(request: stun.Message, key: bytes, addr: Address) -> bytes:
    """Returns a success with the address that was seen, or a role conflict.

    A lite agent never controls (RFC 8445 section 7.3.1.1).
    """
    has_conflict = "ICE-CONTROLLED" in request.attributes
    response = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.ERROR if has_conflict else stun.Class.RESPONSE,
        transaction_id=request.transaction_id,
    )
    if has_conflict:
        response.attributes["ERROR-CODE"] = (487, "Role Conflict")
    else:
        response.attributes["XOR-MAPPED-ADDRESS"] = (addr[0].removeprefix("::ffff:"), addr[1])
    response.add_message_integrity(key)
    response.add_fingerprint()
    return bytes(response)
