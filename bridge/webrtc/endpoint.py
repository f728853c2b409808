"""The bridge's end of all peer connections: one UDP socket and one certificate for every call that comes in."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import ifaddr
from msgspec.structs import asdict

from bridge.config import is_loopback
from bridge.context import CallContext
from bridge.errors import NotTheState
from bridge.log import get_logger
from bridge.media.contracts import Leg, LegOwner
from bridge.ports import Ports
from bridge.webrtc.dtls import new_certificate
from bridge.webrtc.forwarding import DatagramForwarder, DatagramInlet
from bridge.webrtc.fragment import IceFragment, write_fragment
from bridge.webrtc.ice import Credentials, IceLite
from bridge.webrtc.mux import Mux
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.webrtc.sdp import AnswerParameters, DtlsRole, Offer, SetupRole
from bridge.webrtc.udp import MediaSocket
from bridge.wire.stats import EndpointStats

__all__ = ["Endpoint", "local_addresses", "media_host"]

_log = get_logger("webrtc")


class Endpoint:
    """Takes offers, and runs their peers. ``async with`` binds the socket, and closes every peer at the end."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tcp_port: int | None = None,
        shared_tcp_port: int | None = None,
        advertise: tuple[str, ...] = (),
        connect_timeout_s: float = 10,
        peer_timeout_s: float = 10,
        close_deadline_s: float = 2,
        queue_limit_s: int = 600,
        ports: Ports | None = None,
        is_held: bool = False,
    ) -> None:
        """``tcp_port`` is a port that only media uses. On ``shared_tcp_port`` somebody else listens.

        That one hands connections that bring media over to ``new_tcp_line``. If ``is_held``, another process reads UDP
        until ``begin`` is called.
        """
        self.port = port
        self.tcp_port = tcp_port
        """The port of media over TCP alone; None if there is none."""
        self._shared_tcp_port = shared_tcp_port
        self._host = host
        self._advertise = advertise
        self.queue_limit_s = queue_limit_s
        """How much sound a new peer may have queued, in seconds."""
        self._ports = ports or Ports()
        self._is_held = is_held
        self._inlet: DatagramInlet | None = None
        self._certificate = new_certificate()
        self._runner = PeerRunner(
            connect_timeout_s=connect_timeout_s, peer_timeout_s=peer_timeout_s, close_deadline_s=close_deadline_s
        )

    async def __aenter__(self) -> "Endpoint":
        loop = asyncio.get_running_loop()
        self.mux = Mux(loop.time)
        udp = self._ports.udp(self._host, self.port)
        self._host, self.port = udp.getsockname()[:2]
        self._socket = MediaSocket(udp, self.mux, is_reading=not self._is_held)
        self.tcp = self.mux.new_tcp(check_within_s=self._runner.connect_timeout_s)
        """Media over TCP."""
        if self.tcp_port is not None:
            try:
                listening = self._ports.tcp(self._host, self.tcp_port, setting="ice_tcp_port")
                self.tcp_port = listening.getsockname()[1]
                await self.tcp.listen(listening)
            except BaseException:
                self.mux.close()
                raise
        self.addresses = self._advertise or local_addresses(self._host)
        await self._runner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._runner.__aexit__()
        finally:
            if self._inlet is not None:
                self._inlet.close()
            self.mux.close()
            _log.info("peer.socket_closed", **asdict(self.stats()))

    def begin_reading(self, older: Sequence[socket.socket]) -> None:
        """Begins to read the socket; what is not known here goes to ``older``, the lines to older processes."""
        self.mux.forwarder = DatagramForwarder(older, self.mux.drops) if older else None
        self._socket.read_on()

    def new_lines(self) -> list[socket.socket]:
        """Makes the ends by which a process that reads the socket from now on reaches this process, and older ones."""
        if self._inlet is not None:
            self._inlet.close()
        self._inlet, end = DatagramInlet.new(self.mux)
        older = self.mux.forwarder
        return [end, *(line.dup() for line in (older.lines if older is not None else ()))]

    def give_way(self, *, reads_on: bool) -> None:
        """Lets another process listen at the ports from now on.

        This one goes on reading datagrams if it ``reads_on``.
        """
        self.mux.stop_listening()
        if not reads_on:
            self._socket.pause()
            if self.mux.forwarder is not None:  # the other process reaches older ones itself
                self.mux.forwarder.close()

    def apply(self, *, connect_timeout_s: float, peer_timeout_s: float, queue_limit_s: int) -> None:
        """Sets these limits: the first and the last one count for new peers, the other one for all."""
        self.queue_limit_s = queue_limit_s
        self._runner.connect_timeout_s = self.tcp.check_within_s = connect_timeout_s
        self._runner.peer_timeout_s = peer_timeout_s

    @property
    def runner(self) -> PeerRunner:
        """The runner, which runs peers that are dialled as well."""
        return self._runner

    @property
    def peers(self) -> set[Peer]:
        """The peers that connect or run."""
        return self._runner.peers

    def new_tcp_line(self) -> asyncio.Protocol:
        """Makes what speaks on a connection to the shared TCP port that begins as media does."""
        return self.tcp.new_line()

    def stats(self) -> EndpointStats:
        """The stats of the socket and the clock that all peers share."""
        return EndpointStats(
            peers=len(self.peers), late_ticks=self._runner.clock.late_ticks, datagrams_dropped=dict(self.mux.drops)
        )

    def accept(
        self, offer: Offer, owner: LegOwner, context: CallContext | None = None, *, is_publisher: bool = False
    ) -> tuple[Peer, str]:
        """Makes and runs a peer for ``offer``; returns it, and the SDP answer that brings it here.

        ``context`` is that of its call. If the peer ``is_publisher``, answers are played in real time although it hears
        nothing.
        """
        agent = self.mux.new_agent()
        agent.expect(offer.ice_ufrag, offer.ice_pwd)
        peer = Peer(
            agent,
            self._certificate,
            owner,
            inbound_opus=offer.inbound.opus if offer.inbound is not None else 0,
            outbound_opus=offer.outbound.opus if offer.outbound is not None else 0,
            queue_limit_s=self.queue_limit_s,
            is_publisher=is_publisher,
            context=context,
            burst=self._runner.burst,
        )
        # The peer drives the retransmissions, unless it wants the other role.
        peer.connect_to(offer, DtlsRole.CLIENT if offer.setup is SetupRole.PASSIVE else DtlsRole.SERVER)
        self._runner.run(peer)
        return peer, self._answer(peer, agent.credentials)

    def answer_again(self, peer: Leg, offer: Offer) -> str | None:
        """Returns the answer to another offer of ``peer``'s own: an ICE restart, or a repeat. The call goes on over it.

        None if the offer is another peer's, or the peer is gone. Raises ``BadOffer``.
        """
        if not isinstance(peer, Peer) or not isinstance(peer.ice, IceLite) or not peer.continues(offer):
            return None
        peer.renegotiate(offer)
        return self._answer(peer, peer.ice.offered(offer.ice_ufrag, offer.ice_pwd))

    @staticmethod
    def ice_tag(peer: Leg) -> str | None:
        """A name for ``peer``'s present ICE session, which changes with each restart.

        None if it has none, or is gone.
        """
        if not isinstance(peer, Peer) or not isinstance(peer.ice, IceLite) or peer.lifetime.is_ending:
            return None
        return peer.ice.newest.ufrag

    def take_fragment(self, peer: Leg, fragment: IceFragment) -> str | None:
        """Takes one of ``peer``'s fragments; returns the fragment that answers it if it is an ICE restart, else None.

        It is one if it has new credentials. Raises ``NotTheState`` if its credentials are those from before a restart,
        or the peer is gone.
        """
        if not isinstance(peer, Peer) or not isinstance(peer.ice, IceLite) or peer.lifetime.is_ending:
            raise NotTheState("The peer is gone.", param="If-Match")
        newest, current = peer.ice.newest, peer.ice.credentials
        if not fragment.credentials or (newest.remote_ufrag, newest.remote_pwd) in fragment.credentials:
            return None
        if (current.remote_ufrag, current.remote_pwd) in fragment.credentials:
            raise NotTheState(
                "The fragment belongs to an older ICE session; ICE has been restarted since.", param="ice-ufrag"
            )
        offered = peer.ice.offered(*fragment.credentials[0])
        return write_fragment(peer.negotiation.remote, self._parameters(peer, offered))

    def _answer(self, peer: Peer, credentials: Credentials) -> str:
        return peer.answer(self._parameters(peer, credentials))

    def _parameters(self, peer: Peer, credentials: Credentials) -> AnswerParameters:
        return AnswerParameters(
            ice_ufrag=credentials.ufrag,
            ice_pwd=credentials.pwd,
            fingerprint=peer.fingerprint,
            addresses=self.addresses,
            port=self.port,
            tcp_ports=tuple(port for port in (self.tcp_port, self._shared_tcp_port) if port is not None),
            ssrc=peer.rtp.outbound.ssrc,
            setup=peer.negotiation.dtls_role.setup,
        )


def media_host(host: str, advertise: tuple[str, ...] = ()) -> str:
    """Returns the address for media if HTTP listens on ``host``: all of the machine's if that is loopback.

    Firefox pairs nothing with loopback addresses, so a page of this machine reaches the bridge at another one. That
    opens nothing, because who may send is settled by credentials, and those come by HTTP, over loopback. If
    ``advertise`` has loopback addresses and no others, media stays there as well.
    """
    if not is_loopback(host) or (advertise and all(map(is_loopback, advertise))):
        return host
    return "::" if ":" in host else "0.0.0.0"


def local_addresses(host: str) -> tuple[str, ...]:
    """Returns the addresses at which peers reach a socket bound to ``host``; all of the machine's for a wildcard."""
    address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    if not address.is_unspecified:
        return (str(address),)
    found = [
        str(ip.ip) if ip.is_IPv4 else str(ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 or address.version == 6
    ]
    usable = [a for a in found if not ipaddress.ip_address(a.partition("%")[0]).is_link_local]
    return tuple(sorted(usable, key=lambda a: (ipaddress.ip_address(a).is_loopback, ":" in a)))
