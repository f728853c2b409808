"""Which data channel carries the events, whatever a client calls it, and however it is agreed on."""

import asyncio
from typing import Any

import pytest
from aiortc import RTCDataChannel
from aiortc import rtcsctptransport as sctp

from bridge.webrtc import dtls
from bridge.webrtc.dial import dial
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.runner import PeerRunner
from bridge.webrtc.sdp import parse_offer
from bridge.wire.message import EncodedMessage
from tests.webrtc.calling import WITHIN_S, Caller, Recorder
from tests.webrtc.conftest import Placing


class Page(Caller):
    """A caller whose channels are its own choice; what it hears on each."""

    def __init__(self, endpoint: Endpoint, *channels: tuple[str, dict[str, Any]]) -> None:
        super().__init__(endpoint, channel=channels[0])
        self.others = [self.pc.createDataChannel(label, **options) for label, options in channels[1:]]

    async def answers(self, channel: RTCDataChannel) -> None:
        """An event goes up on ``channel``, and the last sink's comes down on it."""
        heard: asyncio.Queue[str] = asyncio.Queue()
        channel.on("message", heard.put_nowait)
        channel.send("up")
        await self.owner.until(lambda: "up" in self.owner.texts)
        self.owner.sinks[-1].send_message(EncodedMessage(b"down"))
        async with asyncio.timeout(WITHIN_S):
            while await heard.get() != "down":
                pass


@pytest.mark.parametrize("label", ["oai-events", "response", ""])
async def test_the_first_channel_carries_events(endpoint: Endpoint, label: str) -> None:
    """Whatever its label, the one channel that a client opens is that of the events, and its end ends the call."""
    page = Page(endpoint, (label, {}))
    try:
        await page.connect()
        await page.answers(page.channel)
        page.channel.close()
        assert await page.owner.until_ended() == "channel_closed"
    finally:
        await page.pc.close()


@pytest.mark.parametrize("stream_id", [0, 1, 7, 64, 1000, 65_534])
async def test_a_channel_that_is_not_announced(endpoint: Endpoint, stream_id: int) -> None:
    """A channel that a client has agreed on by its id is found by its first message."""
    page = Page(endpoint, ("", {"negotiated": True, "id": stream_id}))
    try:
        await page.offer()
        await page.until_open()
        page.channel.send("first")
        await page.owner.until(lambda: "first" in page.owner.texts)
        await page.answers(page.channel)
        assert page.faults.total() == 0
    finally:
        await page.pc.close()


async def test_a_client_that_waits_to_be_spoken_to(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word from the client its channel is the one with the id 0, on which events begin to come."""
    monkeypatch.setattr(dtls, "_ANNOUNCED_WITHIN_S", 0.05)
    page = Page(endpoint, ("oai-events", {"negotiated": True, "id": 0}))
    try:
        await page.connect()
        page.owner.sinks[0].send_message(EncodedMessage(b"session.created"))
        async with asyncio.timeout(WITHIN_S):
            while page.heard != ["session.created"]:
                await page.hear()
    finally:
        await page.pc.close()


async def test_an_announcement_that_comes_late(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that is announced when it was already taken for one that is not is a channel like any."""
    monkeypatch.setattr(dtls, "_ANNOUNCED_WITHIN_S", 0.0)
    opened = asyncio.Event()
    flush = sctp.RTCSctpTransport._data_channel_flush

    async def flush_late(transport: sctp.RTCSctpTransport) -> None:
        if type(transport) is sctp.RTCSctpTransport:  # the client's
            await opened.wait()
        await flush(transport)

    monkeypatch.setattr(sctp.RTCSctpTransport, "_data_channel_flush", flush_late)
    page = Page(endpoint, ("oai-events", {}))
    try:
        await page.offer()
        await page.owner.until(lambda: page.owner.sinks)
        opened.set()
        await flush(page.association)
        await page.until_open()
        await page.owner.until(lambda: len(page.owner.sinks) == 2)
        await page.answers(page.channel)
        assert page.owner.ended is None
    finally:
        await page.pc.close()


@pytest.mark.parametrize("is_first", [True, False])
async def test_the_usual_name_wins(endpoint: Endpoint, is_first: bool) -> None:
    """Of several channels the one called ``oai-events`` carries the events, whichever opens first."""
    labels: list[tuple[str, dict[str, Any]]] = [("chat", {}), ("oai-events", {})]
    page = Page(endpoint, *(reversed(labels) if is_first else labels))
    try:
        await page.connect()
        events = page.channel if is_first else page.others[0]
        other = page.others[0] if is_first else page.channel
        await page.owner.until(lambda: len(page.owner.sinks) == (1 if is_first else 2))
        await page.until_open(other, events)
        other.send("no event")
        await page.answers(events)
        assert "no event" not in page.owner.texts
        other.close()
        await page.works(channel=events)
    finally:
        await page.pc.close()


async def test_what_is_said_before_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that speaks before it has acknowledged our channel is heard, in order (RFC 8832 section 6)."""
    caller, callee = Recorder(), Recorder()
    kept: list[bytes] = []
    send = sctp.RTCSctpTransport._send

    async def send_late(self: sctp.RTCSctpTransport, stream_id: int, pp_id: int, data: bytes, **rest: object) -> None:
        if pp_id == sctp.WEBRTC_DCEP and data == bytes([sctp.DATA_CHANNEL_ACK]):
            kept.append(data)
            return
        await send(self, stream_id, pp_id, data, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sctp.RTCSctpTransport, "_send", send_late)
    async with Endpoint("127.0.0.1", 0) as endpoint, PeerRunner() as runner:

        async def signal(offer: str) -> bytes:
            return endpoint.accept(parse_offer(offer.encode()), callee)[1].encode()

        async with dial(runner, caller, signal):
            await callee.until(lambda: callee.sinks)
            for text in (b"session.created", b"session.updated"):
                callee.sinks[0].send_message(EncodedMessage(text))
            await caller.until(lambda: len(caller.texts) == 2)
            assert caller.texts == ["session.created", "session.updated"]
            assert kept, "the acknowledgement is still to come"
            caller.sinks[0].send_message(EncodedMessage(b"session.update"))
            await callee.until(lambda: callee.texts == ["session.update"])


async def test_dtls_is_life(place_call: Placing) -> None:
    """Events alone keep a call, whenever the next check is due: only the peer can have encrypted them."""
    async with Endpoint("127.0.0.1", 0, peer_timeout_s=1.5) as endpoint:
        caller = await place_call(endpoint)
        monitor = caller.peer.ice
        loop = asyncio.get_running_loop()
        monitor.last_authenticated = before = loop.time() - 1000
        caller.channel.send("still here")
        await caller.owner.until(lambda: caller.owner.texts == ["still here"])
        assert monitor.last_authenticated > before + 900
