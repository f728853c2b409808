"""The life of a peer: how it begins, every way in which it ends, and that nothing is left of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec import to_builtins

from bridge.errors import PeerError, PeerLost, PeerNotConnected
from bridge.media.playback import Part, Started, Stopped
from bridge.webrtc import ice, runner
from bridge.webrtc import peer as peer_module
from bridge.webrtc.dtls import SecureTransport
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.ice import Address
from tests.machine import scaled
from tests.webrtc.calling import LOOPBACK, WITHIN_S, Caller
from tests.webrtc.conftest import Appearing, Placing
from tests.webrtc.test_mux import check

NEVER_S = 3600.0
SOON_S = 0.1
_DEADLINE_S = scaled(0.1)
PART = Part("resp_1", "item_1", 0, 0)


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """After each test there are the tasks that were there before."""
    before = tasks()
    yield
    while left := tasks() - before:
        _, pending = await asyncio.wait(left, timeout=WITHIN_S)
        assert not pending


def tasks() -> set[asyncio.Task[Any]]:
    """All tasks but the test runner's own."""
    return {task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())}


async def end_of(caller: Caller) -> str:
    """The reason; by then the endpoint has forgotten the peer."""
    reason = await caller.owner.until_ended()
    await asyncio.sleep(0)
    assert caller.peer not in caller.endpoint.peers
    assert caller.peer.ice not in caller.endpoint.mux.agents.values()
    assert caller.peer.ice not in caller.endpoint.mux.by_address.values()
    return reason


def error_of(caller: Caller) -> Any:
    assert caller.owner.ended is not None
    return caller.owner.ended[1]


# Beginning


async def test_sound_and_events_both_ways(endpoint: Endpoint, place_call: Placing) -> None:
    """A call connects, is heard, and hears: a response starts, is played to its end, and stops."""
    caller = await place_call(endpoint)
    await caller.works()
    caller.peer.play(PART, bytes(9600))
    caller.peer.end(PART.response_id)
    await caller.owner.until(lambda: len(caller.owner.events) == 2)
    assert caller.owner.events == [Started("resp_1"), Stopped("resp_1")]
    figures = to_builtins(caller.peer.stats())
    assert figures["packets"] == 5
    assert figures["lost"] == figures["faults"] == 0


async def test_an_offer_whose_peer_never_comes(place_call: Placing) -> None:
    """After the time that is set the call is forgotten, and its owner is told why."""
    async with Endpoint(LOOPBACK, 0, connect_timeout_s=SOON_S) as endpoint:
        caller = await place_call(endpoint, is_connected=False)
        await caller.offer_alone()
        assert await end_of(caller) == "peer_not_connected"
        assert isinstance(error_of(caller), PeerNotConnected)
        assert not caller.owner.is_connected


async def test_a_peer_that_comes_no_further_than_ice(place_call: Placing, new_stranger: Appearing) -> None:
    """Right checks alone do not keep an offer: the secure connection has the same time limit."""
    async with Endpoint(LOOPBACK, 0, connect_timeout_s=scaled(0.2)) as endpoint:
        caller = await place_call(endpoint, is_connected=False)
        await caller.offer_alone()
        client = await new_stranger(endpoint)
        (agent,) = endpoint.mux.agents.values()
        client.send(bytes(check(agent, nominated=True)))
        await client.answer()
        client.send(bytes([22, 0xFE, 0xFD]) + bytes(60))
        assert await end_of(caller) == "peer_not_connected"


async def test_a_certificate_that_was_not_offered(endpoint: Endpoint, place_call: Placing) -> None:
    """A peer whose certificate is not the one in its offer does not get a call."""
    caller = await place_call(endpoint, is_connected=False)
    await caller.offer(other_fingerprint)
    assert await end_of(caller) == "dtls_failed"
    assert isinstance(error_of(caller), PeerError)
    assert not caller.owner.is_connected


def other_fingerprint(sdp: str) -> str:
    """``sdp`` with the last byte of each fingerprint changed."""
    lines = sdp.split("\r\n")
    return "\r\n".join(
        line[:-2] + ("00" if line[-2:] != "00" else "01") if line.startswith("a=fingerprint:") else line
        for line in lines
    )


@pytest.mark.parametrize("spare", ["sha-256", "sha-384", "sha-512"])
async def test_each_fingerprint_alone_is_enough(endpoint: Endpoint, place_call: Placing, spare: str) -> None:
    """Any of the hashes that RFC 8122 asks for identifies the peer by itself."""

    def keep_one(sdp: str) -> str:
        lines = sdp.split("\r\n")
        return "\r\n".join(line for line in lines if not line.startswith("a=fingerprint:") or spare in line)

    await (await place_call(endpoint, patch=keep_one)).works()


@pytest.mark.parametrize("direction", ["sendonly", "recvonly", "inactive"])
async def test_sound_one_way(endpoint: Endpoint, place_call: Placing, direction: str) -> None:
    """A peer that only listens, or only speaks, connects like any other."""
    caller = await place_call(endpoint, is_connected=False)
    caller.pc.getTransceivers()[0].direction = direction
    await caller.connect()
    caller.channel.send("hello")
    await caller.owner.until(lambda: caller.owner.texts == ["hello"])


# Ending


async def close_dtls(caller: Caller) -> None:
    await caller.dtls.stop()


async def close_channel(caller: Caller) -> None:
    caller.channel.close()


async def close_channel_and_go(caller: Caller) -> None:
    async def answer_nothing(param: object) -> None:
        """The stream's reset that comes back finds nobody."""

    caller.association._receive_reconfig_param = answer_nothing  # type: ignore[method-assign]
    caller.channel.close()


async def close_connection(caller: Caller) -> None:
    await caller.pc.close()


async def hang_up(caller: Caller) -> None:
    caller.peer.hang_up("enough")
    caller.peer.hang_up("too late")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (close_dtls, "peer_closed"),
        (close_channel, "channel_closed"),
        (close_channel_and_go, "channel_closed"),
        (close_connection, "channel_closed"),
        (hang_up, "enough"),
    ],
)
async def test_each_end_has_its_reason(
    endpoint: Endpoint, place_call: Placing, end: Callable[[Caller], Any], reason: str
) -> None:
    """A goodbye ends the call at once, by whomever it is said and however; that is nobody's error."""
    caller, witness = await place_call(endpoint), await place_call(endpoint)
    await caller.works()
    await end(caller)
    assert await end_of(caller) == reason
    assert error_of(caller) is None
    await witness.works()


async def test_the_peer_is_told_of_the_end(endpoint: Endpoint, place_call: Placing) -> None:
    """When the bridge hangs up, the peer's connection closes at once instead of timing out."""
    caller = await place_call(endpoint)
    closed = asyncio.Event()

    def look() -> None:
        if caller.pc.connectionState in ("closed", "failed"):
            closed.set()

    caller.pc.on("connectionstatechange", look)
    caller.peer.hang_up("enough")
    async with asyncio.timeout(WITHIN_S):
        await closed.wait()
    assert caller.channel.readyState == "closed"


async def test_sound_that_waits_goes_with_the_call(endpoint: Endpoint, place_call: Placing) -> None:
    """A minute of an answer that nobody will hear is not kept by a peer that has gone."""
    caller = await place_call(endpoint)
    caller.peer.play(PART, bytes(48 * 60_000))
    caller.peer.hang_up("enough")
    await end_of(caller)
    await caller.peer.lifetime.closed.wait()
    assert caller.peer.rtp.outbound.playback.queued_ms == 0


async def test_after_the_goodbye_nothing_is_said(endpoint: Endpoint, place_call: Placing) -> None:
    """A chunk that SCTP has still to send goes nowhere, also while the transport does not yet count as closed."""
    caller = await place_call(endpoint)
    dtls = caller.peer._secure._dtls
    await dtls.stop()
    assert dtls.state == "connected"
    await dtls._send_data(b"late")
    caller.peer.hang_up("hangup")
    assert await end_of(caller) == "hangup"
    assert caller.peer.faults.total() == 0


async def test_hanging_up_before_anyone_came(place_call: Placing) -> None:
    """A call may be ended while it is still expected."""
    async with Endpoint(LOOPBACK, 0, connect_timeout_s=NEVER_S) as endpoint:
        caller = await place_call(endpoint, is_connected=False)
        await caller.offer_alone()
        caller.peer.hang_up("enough")
        assert await end_of(caller) == "enough"
        assert error_of(caller) is None


async def test_hanging_up_in_the_handshake(place_call: Placing, new_stranger: Appearing) -> None:
    """The same in the middle of connecting."""
    async with Endpoint(LOOPBACK, 0, connect_timeout_s=NEVER_S) as endpoint:
        caller = await place_call(endpoint, is_connected=False)
        await caller.offer_alone()
        client = await new_stranger(endpoint)
        (agent,) = endpoint.mux.agents.values()
        client.send(bytes(check(agent)))
        await client.answer()
        caller.peer.hang_up("enough")
        assert await end_of(caller) == "enough"
        assert error_of(caller) is None


async def test_a_peer_that_falls_silent(place_call: Placing) -> None:
    """A peer that vanishes without a goodbye is lost after the time that is set, while another one lives on."""
    async with Endpoint(LOOPBACK, 0, peer_timeout_s=0.5) as endpoint:
        caller, witness = await place_call(endpoint), await place_call(endpoint)
        await caller.works()
        for protocol in caller.dtls.transport._connection._protocols:
            protocol.transport.abort()
        while caller.owner.ended is None:
            await witness.send_rtp(witness.rtp(b""))  # a sign of life; sound would come faster than real time
            await asyncio.sleep(0)
        assert await caller.owner.until_ended() == "peer_lost"
        assert isinstance(error_of(caller), PeerLost)
        await witness.works()


async def test_a_peer_that_never_checks_again(place_call: Placing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that checks until it is connected and then only answers, as libnice does, stays."""
    monkeypatch.setattr(ice, "CONSENT_INTERVAL_S", 0.1)
    monkeypatch.setattr(runner, "_WATCH_ROUNDS", 5)
    monkeypatch.setattr(peer_module, "_CONSENT_EXPIRES_S", 0.8)
    async with Endpoint(LOOPBACK, 0, peer_timeout_s=0.8) as endpoint:
        caller = await place_call(endpoint)
        connection = caller.dtls.transport._connection
        assert connection._query_consent_task is not None
        connection._query_consent_task.cancel()
        answers = 0
        checked = caller.peer.ice.checked  # type: ignore[attr-defined]
        enough = asyncio.Event()

        def count(address: Address, *, nominated: bool, now: float, ufrag: str | None = None) -> None:
            nonlocal answers
            answers += 1
            checked(address, nominated=nominated, now=now, ufrag=ufrag)
            if answers == 12:
                enough.set()

        monkeypatch.setattr(caller.peer.ice, "checked", count)
        async with asyncio.timeout(2 * WITHIN_S):
            await enough.wait()
        await caller.works()


async def test_endpoint_that_stops(place_call: Placing) -> None:
    """An endpoint that is closed hangs up all its calls, those that still connect too, and waits for their end."""
    async with Endpoint(LOOPBACK, 0, connect_timeout_s=NEVER_S) as endpoint:
        callers = [await place_call(endpoint), await place_call(endpoint)]
        expected = await place_call(endpoint, is_connected=False)
        await expected.offer_alone()
    for caller in (*callers, expected):
        assert caller.owner.ended == ("server_stopped", None)
    assert endpoint.peers == set()
    assert (endpoint.mux.agents, endpoint.mux.by_address) == ({}, {})


# Closing is bounded


async def hang(transport: SecureTransport) -> None:
    await asyncio.Event().wait()


async def fail(transport: SecureTransport) -> None:
    raise AttributeError("stop")


@pytest.mark.parametrize(("close", "fault"), [(hang, "close_deadline"), (fail, "close_AttributeError")])
async def test_a_transport_that_does_not_close(
    place_call: Placing, monkeypatch: pytest.MonkeyPatch, close: Any, fault: str
) -> None:
    """Closing that hangs is cut at its deadline, closing that fails is the end as well; each is counted."""
    monkeypatch.setattr(SecureTransport, "aclose", close)
    async with Endpoint(LOOPBACK, 0, close_deadline_s=SOON_S) as endpoint:
        caller = await place_call(endpoint)
        caller.peer.hang_up("enough")
        assert await end_of(caller) == "enough"
        assert caller.peer.faults[fault] == 1


async def test_an_endpoint_whose_transports_do_not_close(place_call: Placing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five calls that hang in closing hold up the endpoint's end for one deadline, not for five."""
    monkeypatch.setattr(SecureTransport, "aclose", hang)
    async with Endpoint(LOOPBACK, 0, close_deadline_s=_DEADLINE_S) as endpoint:
        callers = [await place_call(endpoint) for _ in range(5)]
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 4 * _DEADLINE_S
    assert all(caller.owner.ended == ("server_stopped", None) for caller in callers)


# The watch


async def test_what_keeps_a_peer_alive(endpoint: Endpoint, place_call: Placing) -> None:
    """Checks and authentic sound count as being heard; what a stranger sends from the same address does not."""
    caller = await place_call(endpoint)
    heard = caller.peer.ice.last_authenticated
    assert heard is not None
    await caller.dtls.transport._send(bytes([0x80, 96]) + bytes(60))
    caller.channel.send("still here")
    await caller.owner.until(lambda: caller.owner.texts)
    assert caller.peer.faults["srtp_rejected"] == 1
    caller.peer.ice.last_authenticated = heard - 1
    await caller.speak()
    assert caller.peer.ice.last_authenticated >= heard
    caller.peer.watch(caller.peer.ice.last_authenticated + 10, 10)
    assert caller.owner.ended is None
    caller.peer.watch(caller.peer.ice.last_authenticated + 10.1, 10)
    assert await end_of(caller) == "peer_lost"


async def test_sound_is_no_consent(endpoint: Endpoint, place_call: Placing) -> None:
    """A peer that is heard, but has not checked for half a minute, has not said that it may still be sent to."""
    caller = await place_call(endpoint)
    await caller.works()
    ice = caller.peer.ice
    assert ice.last_authenticated is not None
    ice.last_consent = ice.last_authenticated - 30.1
    caller.peer.watch(ice.last_authenticated, 10)
    assert await end_of(caller) == "peer_lost"
    assert isinstance(error_of(caller), PeerLost)


async def test_what_was_dropped_can_be_read(endpoint: Endpoint, place_call: Placing, new_stranger: Appearing) -> None:
    """A stranger's datagrams are counted by reason in the endpoint's figures."""
    caller, stranger = await place_call(endpoint), await new_stranger(endpoint)
    stranger.send(bytes([128, 111]) + bytes(30))
    stranger.send(b"\xff")
    await caller.works()
    assert to_builtins(endpoint.stats()) == {
        "peers": 1,
        "late_ticks": endpoint.runner.clock.late_ticks,
        "datagrams_dropped": {"unknown_source": 1, "unknown_kind": 1},
    }
