"""A NAT and a bad network between a live caller and the endpoint: loses, delays and doubles by seed, and rebinds."""

import asyncio
from collections import deque
from typing import Any

import numpy as np

from tests.webrtc.calling import LOOPBACK

__all__ = ["Relay"]

Address = tuple[str, int]


class _Socket(asyncio.DatagramProtocol):
    """One side of the relay."""

    def __init__(self, take: Any) -> None:
        self._take = take

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)


class Relay:
    """The caller sends to ``port``; the endpoint sees another address, and after ``rebind`` yet another.

    ``async with`` opens it. Each datagram, either way, is lost with the probability ``loss``, late by up to
    ``jitter_s``, and doubled with the probability ``doubles``, the same for the same seed.
    """

    def __init__(
        self, endpoint_port: int, *, seed: int = 0, loss: float = 0.0, jitter_s: float = 0.0, doubles: float = 0.0
    ) -> None:
        self.lost = 0
        self.outside: list[Address] = []
        """The addresses that the endpoint has seen, the present one last."""
        self.loss = loss
        """May be changed while it runs."""
        self._endpoint = (LOOPBACK, endpoint_port)
        self._chance = np.random.default_rng(seed)
        self._jitter_s, self._doubles = jitter_s, doubles
        self._caller: Address | None = None
        self._under_way: deque[asyncio.TimerHandle] = deque(maxlen=1000)
        self._outer: _Socket

    async def __aenter__(self) -> "Relay":
        self._loop = asyncio.get_running_loop()
        _, self._inner = await self._loop.create_datagram_endpoint(
            lambda: _Socket(self._from_caller), local_addr=(LOOPBACK, 0)
        )
        self.port: int = self._inner.transport.get_extra_info("sockname")[1]
        await self.rebind()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for timer in self._under_way:
            timer.cancel()
        self._inner.transport.close()
        self._outer.transport.close()

    async def rebind(self) -> None:
        """The NAT forgets its mapping: what the endpoint sends to the old address is lost."""
        if self.outside:
            self._outer.transport.close()
        _, self._outer = await self._loop.create_datagram_endpoint(
            lambda: _Socket(self._from_endpoint), remote_addr=self._endpoint
        )
        self.outside.append(self._outer.transport.get_extra_info("sockname")[:2])

    def through(self, answer: str) -> str:
        """The answer's candidate with the relay's port in it."""
        return answer.replace(f" {self._endpoint[1]} typ host", f" {self.port} typ host")

    def _from_caller(self, data: bytes, addr: Address) -> None:
        self._caller = addr
        self._pass_on(lambda: self._outer.transport.sendto(data))

    def _from_endpoint(self, data: bytes, addr: Address) -> None:
        self._pass_on(lambda: self._inner.transport.sendto(data, self._caller))

    def _pass_on(self, send: Any) -> None:
        loss, late, doubles = self._chance.random(3)
        if loss < self.loss:
            self.lost += 1
            return
        for _ in range(2 if doubles < self._doubles else 1):
            if self._jitter_s:
                self._under_way.append(self._loop.call_later(late * self._jitter_s, send))
            else:
                send()
