"""The bridge's end of all peer connections: one UDP socket, one certificate, one clock of 20 ms."""

import asyncio
import ipaddress
import socket
from contextlib import suppress

import ifaddr

from bridge.errors import ConfigError
from bridge.media.opus import FRAME_MS
from bridge.peer.dtls import new_certificate
from bridge.peer.mux import Mux
from bridge.peer.peer import Peer
from bridge.peer.sdp import Offer
from bridge.session.roles import LegOwner

__all__ = ["Endpoint", "local_addresses"]

_TICK_S = FRAME_MS / 1000
_MAX_CATCH_UP = 5  # ticks; a clock later than that leaves a gap instead of a burst
_WATCH_TICKS = 1000 // FRAME_MS
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024


class Endpoint:
    """Takes offers, runs their peers. ``async with`` binds the socket and closes every peer at the end."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        advertise: tuple[str, ...] = (),
        connect_timeout_s: float = 10,
        peer_timeout_s: float = 10,
        close_deadline_s: float = 2,
        queue_limit_s: int = 600,
    ) -> None:
        self.peers: set[Peer] = set()
        self.port = port
        self._host = host
        self._advertise = advertise
        self._connect_timeout_s = connect_timeout_s
        self._peer_timeout_s = peer_timeout_s
        self._close_deadline_s = close_deadline_s
        self._queue_limit_s = queue_limit_s
        self._certificate = new_certificate()
        self._tasks = asyncio.TaskGroup()
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._ticks = 0
        self.late_ticks = 0

    async def __aenter__(self) -> "Endpoint":
        self._loop = asyncio.get_running_loop()
        self.mux = Mux(self._loop.time)
        try:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: self.mux, local_addr=(self._host, self.port)
            )
        except OSError as error:
            raise ConfigError(f"udp_port: cannot bind UDP {self._host}:{self.port}: {error.strerror}") from error
        self.port = transport.get_extra_info("sockname")[1]
        udp = transport.get_extra_info("socket")
        with suppress(OSError):  # the kernel's own limit then holds
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        self.addresses = self._advertise or local_addresses(self._host)
        await self._tasks.__aenter__()
        self._next_tick = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(self._next_tick, self._tick)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for peer in list(self.peers):
            peer.hang_up("server_stopped")
        await self._tasks.__aexit__(None, None, None)
        if self._timer is not None:
            self._timer.cancel()
        self.mux.close()

    def accept(self, offer: Offer, owner: LegOwner) -> tuple[Peer, str]:
        """A peer for ``offer``, running, and the SDP answer that brings it here."""
        peer = Peer(offer, self.mux, self._certificate, owner, queue_limit_s=self._queue_limit_s)
        self.peers.add(peer)
        task = self._tasks.create_task(
            peer.run(connect_timeout_s=self._connect_timeout_s, close_deadline_s=self._close_deadline_s)
        )
        task.add_done_callback(lambda _: self.peers.discard(peer))
        return peer, peer.answer(self.addresses, self.port)

    def _tick(self) -> None:
        """Every 20 ms for all peers; catches up after a short delay, leaves a gap after a long one."""
        now = self._loop.time()
        behind = int((now - self._next_tick) / _TICK_S)
        if behind > _MAX_CATCH_UP:
            self.late_ticks += behind
            for peer in self.peers:
                peer.outbound.skip(behind)
            self._next_tick += behind * _TICK_S
        for peer in tuple(self.peers):
            peer.tick(now)
        self._ticks += 1
        if self._ticks % _WATCH_TICKS == 0:
            for peer in tuple(self.peers):
                peer.watch(now, self._peer_timeout_s)
        self._next_tick += _TICK_S
        self._timer = self._loop.call_at(self._next_tick, self._tick)


def local_addresses(host: str) -> tuple[str, ...]:
    """The addresses at which peers can reach a socket bound to ``host``; all of the machine's for a wildcard."""
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
