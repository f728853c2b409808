"""A call that we dial: our own peer as the caller of our own endpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.media.playback import Part
from bridge.webrtc import ice_full
from bridge.webrtc import peer as peer_module
from bridge.webrtc.dial import dial
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner
from bridge.webrtc.sdp import parse_offer
from tests.webrtc.calling import LOOPBACK, WITHIN_S, Recorder


@asynccontextmanager
async def dialled(endpoint: Endpoint, runner: PeerRunner) -> AsyncIterator[tuple[Peer, Recorder, Recorder]]:
    """The dialling peer, its owner and the owner at the endpoint, connected."""
    caller, callee = Recorder(), Recorder()

    async def signal(offer: str) -> bytes:
        return endpoint.accept(parse_offer(offer.encode()), callee)[1].encode()

    async with dial(runner, caller, signal) as peer:
        await caller.until(lambda: caller.sinks)
        yield peer, caller, callee


async def test_consent_alone_keeps_a_silent_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says a word for three times the silence that is allowed: the answered consent checks hold the call."""
    monkeypatch.setattr(ice_full, "CONSENT_INTERVAL_S", 0.1)
    async with Endpoint(LOOPBACK, 0, peer_timeout_s=0.5) as endpoint, PeerRunner(peer_timeout_s=0.5) as runner:
        async with dialled(endpoint, runner) as (peer, caller, callee):
            (agent,) = endpoint.mux.agents.values()
            checked, enough = agent.checked, asyncio.Event()
            began = asyncio.get_running_loop().time()

            def check(address: tuple[str, int], *, nominated: bool, now: float, ufrag: str | None = None) -> None:
                checked(address, nominated=nominated, now=now, ufrag=ufrag)
                if now - began > 1.5:
                    enough.set()

            monkeypatch.setattr(agent, "checked", check)
            async with asyncio.timeout(WITHIN_S):
                await enough.wait()
            assert (caller.ended, callee.ended) == (None, None)
        assert caller.ended == ("caller_closed", None)


async def test_a_server_that_vanishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of which nothing is heard any more, not even consent, is lost after the time that is set."""
    monkeypatch.setattr(ice_full, "CONSENT_INTERVAL_S", 0.1)
    async with Endpoint(LOOPBACK, 0) as endpoint, PeerRunner(peer_timeout_s=0.5) as runner:
        async with dialled(endpoint, runner) as (_, caller, _):
            monkeypatch.setattr(endpoint.mux, "receive_burst", lambda datagrams, burst: None)
            endpoint.mux.close()
            assert await caller.until_ended() == "peer_lost"


async def test_consent_that_expires_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without consent for the time that RFC 7675 gives nothing more is sent, whatever silence is allowed."""
    monkeypatch.setattr(ice_full, "CONSENT_INTERVAL_S", 0.1)
    monkeypatch.setattr(peer_module, "_CONSENT_EXPIRES_S", 0.4)
    async with Endpoint(LOOPBACK, 0) as endpoint, PeerRunner(peer_timeout_s=3600) as runner:
        async with dialled(endpoint, runner) as (_, caller, _):
            monkeypatch.setattr(endpoint.mux, "receive_burst", lambda datagrams, burst: None)
            assert await caller.until_ended() == "peer_lost"


class Relayed:
    """What aioice gives a relayed pair for a transport: it sends, and can be asked for nothing else."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self.sent = 0
        self._transport = transport

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sent += 1
        self._transport.sendto(data, addr)


async def test_what_is_sent_may_be_relayed() -> None:
    """A pair over TURN carries what any other does, and nothing leaves after the end."""
    async with Endpoint(LOOPBACK, 0) as endpoint, PeerRunner() as runner:
        async with dialled(endpoint, runner) as (peer, _, callee):
            protocol = peer.ice._connection._nominated[1].protocol  # type: ignore[attr-defined]
            protocol.transport = relayed = Relayed(protocol.transport)
            peer.play(Part("resp_1", "item_1", 0, 0), bytes(48_000))
            await callee.until(lambda: len(callee.pcm) >= 24_000)
            protocol.transport = relayed._transport
        sent = relayed.sent
        peer.ice.send_datagram(b"late")
        assert 20 <= sent == relayed.sent  # half a second, some of it perhaps made up by the one who waited
