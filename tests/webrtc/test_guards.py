"""What strangers, hostile peers and our own mistakes can do to a live call: nothing, or end that call and no other.

Every test runs two calls. One is attacked, the other has to go on as if nothing were. A call works when its sound
reaches its owner and an event travels each way. No attack may hold up the event loop.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from aiortc import rtcsctptransport as sctp
from aiortc.utils import uint32_gte

from bridge.burst import Burst
from bridge.media.playback import Part
from bridge.webrtc.dtls import WINDOW_BYTES, is_well_formed
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.sdp import MAX_MESSAGE_BYTES
from bridge.wire.message import EncodedMessage
from tests.webrtc.calling import LONGEST_BLOCK_S, LOOPBACK, WITHIN_S, Caller, Calls, data_chunk, raw_chunk
from tests.webrtc.conftest import Appearing, Placing

Trigger = Callable[[Caller], Awaitable[None]]
PART = Part("resp_1", "item_1", 0, 0)
NO_LENGTH = struct.pack("!HH", 1, 0) + bytes(8)
INIT_HEADER = struct.pack("!LLHHL", 7, 1_000_000, 10, 10, 12_345)
FORGED = {
    "alert": bytes([21, 0xFE, 0xFD]) + bytes(8) + bytes([0, 2, 2, 40]),
    "ClientHello": bytes([22, 0xFE, 0xFD]) + bytes(8) + bytes([0, 54, 1]) + bytes(53),
    "ServerHello": bytes([22, 0xFE, 0xFD]) + bytes(8) + bytes([0, 54, 2]) + bytes(53),
    "RTP": bytes([0x80, 96]) + bytes(60),
    "RTCP BYE": bytes([0x81, 203, 0, 1]) + bytes(24),
    "STUN": bytes.fromhex("000100002112a442") + bytes(12),
    "STUN attribute": bytes.fromhex("000100082112a442") + bytes(12) + bytes.fromhex("0006ffffffffffff"),
    "empty": b"",
    "oversized": bytes([0x80]) * 1501,
    "oversized DTLS": bytes([22]) * 9000,
}


# Strangers


@pytest.mark.parametrize("name", FORGED)
async def test_a_stranger_in_a_live_call(calls: Calls, endpoint: Endpoint, new_stranger: Appearing, name: str) -> None:
    """No datagram from an address that was never checked does anything but be counted."""
    stranger = await new_stranger(endpoint)
    for _ in range(50):
        stranger.send(FORGED[name])
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() == 0
    assert stranger.received == []
    if name != "empty":  # which uvloop may swallow
        assert endpoint.mux.drops.total() == 50


async def test_every_first_byte_from_a_stranger(calls: Calls, endpoint: Endpoint, new_stranger: Appearing) -> None:
    """The same for datagrams that begin with any byte."""
    stranger = await new_stranger(endpoint)
    for first in range(256):
        stranger.send(bytes([first]) + bytes(40))
    assert await calls.outcome() == "works"
    assert endpoint.mux.drops.total() == 256
    assert stranger.received == []


@pytest.mark.parametrize("name", FORGED)
async def test_a_stranger_in_the_handshake(
    endpoint: Endpoint, place_call: Placing, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Datagrams from other addresses between any two of the handshake's do not keep it from succeeding."""
    receive = endpoint.mux.receive_burst
    forged = [(FORGED[name], other) for other in ((LOOPBACK, 9), ("192.0.2.1", 9))]

    def receive_amid_forged(datagrams: Sequence[tuple[bytes, Any]], burst: Burst) -> None:
        receive([each for datagram in datagrams for each in (*forged, datagram)], burst)

    monkeypatch.setattr(endpoint.mux, "receive_burst", receive_amid_forged)
    caller = await place_call(endpoint)
    await caller.works()
    assert caller.faults.total() == 0
    assert endpoint.mux.drops.total() > 10


@pytest.mark.parametrize("name", [name for name in FORGED if "STUN" not in name])
async def test_garbage_from_the_peers_own_address(calls: Calls, name: str) -> None:
    """Who can forge the peer's address still has none of its keys: nothing that is not authentic ends the call."""
    for _ in range(20):
        await calls.victim.dtls.transport._send(FORGED[name])
    assert await calls.outcome() == "works"


# SCTP


def parameters(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("!HH", kind, len(value) + 4 if length is None else length) + value


def sack(*gaps: tuple[int, int], cumulative_tsn: int = 0, said: int | None = None) -> bytes:
    count = len(gaps) if said is None else said
    blocks = b"".join(struct.pack("!HH", *gap) for gap in gaps)
    return raw_chunk(3, struct.pack("!LLHH", cumulative_tsn, 1_000_000, count, 0) + blocks)


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(raw_chunk(1, INIT_HEADER + NO_LENGTH), id="INIT, parameter without length"),
        pytest.param(raw_chunk(2, INIT_HEADER + NO_LENGTH), id="INIT ACK, parameter without length"),
        pytest.param(raw_chunk(4, NO_LENGTH), id="HEARTBEAT, parameter without length"),
        pytest.param(raw_chunk(5, NO_LENGTH), id="HEARTBEAT ACK, parameter without length"),
        pytest.param(raw_chunk(6, NO_LENGTH), id="ABORT, parameter without length"),
        pytest.param(raw_chunk(9, NO_LENGTH), id="ERROR, parameter without length"),
        pytest.param(raw_chunk(130, NO_LENGTH), id="RECONFIG, parameter without length"),
        pytest.param(raw_chunk(130, parameters(13, bytes(12)) + NO_LENGTH), id="RECONFIG, second parameter"),
        pytest.param(raw_chunk(4, parameters(1, b"", 3)), id="parameter too short"),
        pytest.param(raw_chunk(4, parameters(1, bytes(8), 900)), id="parameter too long"),
        pytest.param(raw_chunk(130, parameters(13, bytes(3))), id="short reset request"),
        pytest.param(raw_chunk(1, bytes(7)), id="short INIT"),
        pytest.param(raw_chunk(3, bytes(6)), id="short SACK"),
        pytest.param(sack(said=500), id="SACK without its gap blocks"),
        pytest.param(sack(*[(1, 65_535)] * 250), id="SACK with huge gap blocks"),
        pytest.param(sack((60_000, 65_535)), id="SACK of what was never sent"),
        pytest.param(raw_chunk(0, bytes(5)), id="short DATA"),
        pytest.param(raw_chunk(0, b""), id="empty DATA"),
        pytest.param(raw_chunk(192, b""), id="empty FORWARD TSN"),
        pytest.param(raw_chunk(192, bytes(2)), id="short FORWARD TSN"),
        pytest.param(raw_chunk(192, struct.pack("!L", 5) + bytes(3)), id="half a stream in FORWARD TSN"),
        pytest.param(raw_chunk(7, bytes(1)), id="short SHUTDOWN"),
        pytest.param(raw_chunk(4, b"", length=0), id="chunk without length"),
        pytest.param(raw_chunk(4, b"", length=900), id="chunk too long"),
    ],
)
async def test_malformed_chunks(calls: Calls, chunk: bytes) -> None:
    """A chunk whose lengths make no sense is dropped with its packet, and counted."""
    await calls.victim.send_sctp(chunk, tag=0 if chunk[0] == 1 else None)
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() == 1


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(raw_chunk(77, bytes(9)), id="unknown chunk"),
        pytest.param(raw_chunk(10, b""), id="empty cookie"),
        pytest.param(raw_chunk(10, bytes(24)), id="wrong cookie"),
        pytest.param(raw_chunk(14, b""), id="SHUTDOWN COMPLETE"),
        pytest.param(raw_chunk(8, b""), id="SHUTDOWN ACK"),
        pytest.param(raw_chunk(9, parameters(1, bytes(4))), id="ERROR"),
        pytest.param(raw_chunk(130, parameters(16, bytes(8))), id="answer to no reset"),
        pytest.param(raw_chunk(130, parameters(99, bytes(8))), id="unknown parameter"),
        pytest.param(sack((9, 1)), id="SACK gap that ends before it begins"),
        pytest.param(b"", id="no chunk"),
    ],
)
async def test_chunks_out_of_place(calls: Calls, chunk: bytes) -> None:
    """A chunk that has no business in an open association changes nothing."""
    await calls.victim.send_sctp(chunk)
    assert await calls.outcome() == "works"


async def test_a_packet_that_is_no_sctp(calls: Calls) -> None:
    """Anything may stand in a DTLS record."""
    for data in (b"\0", bytes(11), bytes(12), bytes(1100), b"\xff" * 1100):
        await calls.victim.dtls._send_data(data)
    assert await calls.outcome() == "works"


@pytest.mark.parametrize("chunk", [raw_chunk(6, b""), raw_chunk(7, bytes(4))], ids=["ABORT", "SHUTDOWN"])
async def test_a_peer_may_close_the_association(calls: Calls, chunk: bytes) -> None:
    """Its data channel is closed with it, and so is its call."""
    await calls.victim.send_sctp(chunk)
    assert await calls.outcome() == "channel_closed"


async def test_a_second_init(calls: Calls) -> None:
    """A peer that begins anew in the middle may lose its own events; it is still heard."""
    await calls.victim.send_sctp(raw_chunk(1, INIT_HEADER), tag=0)
    await calls.victim.speak()
    await calls.witness.works()
    assert calls.victim.owner.ended is None


@pytest.mark.parametrize(
    "tsn_ahead", [100_000, 2**31 - 2, 2**31 + 2], ids=["far ahead", "furthest ahead", "furthest behind"]
)
async def test_a_tsn_from_nowhere(calls: Calls, tsn_ahead: int) -> None:
    """A TSN far from all others costs at most its own call."""
    tsn = (calls.victim.association._local_tsn + tsn_ahead) % 2**32
    await calls.victim.send_sctp(data_chunk(tsn, b"x", sequence=5000))
    await calls.victim.speak()
    await calls.witness.works()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"data": b"\xff\xfe{}"}, id="string that is no UTF-8"),
        pytest.param({"data": b"\x03" + bytes(11), "protocol": sctp.WEBRTC_DCEP}, id="open twice"),
        pytest.param({"data": b"\x03", "protocol": sctp.WEBRTC_DCEP}, id="short open"),
        pytest.param({"data": b"\x02", "protocol": sctp.WEBRTC_DCEP, "stream": 40}, id="acknowledges no channel"),
        pytest.param({"data": struct.pack("!BBHLHH", 3, 0, 0, 0, 2, 0) + b"\xff\xfe", "protocol": sctp.WEBRTC_DCEP,
                      "stream": 6}, id="label that is no UTF-8"),
        pytest.param({"data": b"x", "stream": 64}, id="stream 64"),
        pytest.param({"data": b"x", "stream": 65_535}, id="stream 65535"),
    ],
)  # fmt: skip
async def test_messages_that_are_none(calls: Calls, message: dict[str, Any]) -> None:
    """A message that cannot be one is dropped and counted; those behind it arrive."""
    await calls.victim.send_message(**message)
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() >= (message["data"] != b"\x03")


async def test_another_channel(calls: Calls) -> None:
    """A data channel of another name is counted; nothing that comes over it is an event, and it may close."""
    other = calls.victim.pc.createDataChannel("telemetry")
    opened = asyncio.Event()
    other.on("open", opened.set)
    async with asyncio.timeout(WITHIN_S):
        await opened.wait()
    other.send("{}")
    assert await calls.outcome() == "works"
    assert "{}" not in calls.victim.owner.texts
    assert calls.victim.faults == {"other_channel": 1}
    other.close()
    assert await calls.outcome() == "works"


async def test_what_is_behind_a_bad_message_arrives(calls: Calls) -> None:
    """A good message that had to wait for a bad one is handed over with it, not held until another comes."""
    first, second = calls.victim.association._local_tsn, calls.victim.association._local_tsn + 1
    sequence = calls.victim.association._outbound_stream_seq[calls.victim.channel.id or 0]
    await calls.victim.send_sctp(data_chunk(second % 2**32, b"good", sequence=sequence + 1))
    await calls.victim.send_sctp(data_chunk(first, b"\xff", sequence=sequence))
    await calls.victim.owner.until(lambda: "good" in calls.victim.owner.texts)


async def test_the_largest_message(calls: Calls) -> None:
    """What the answer announces as the largest message arrives whole."""
    await calls.victim.send_message(b"x" * MAX_MESSAGE_BYTES)
    await calls.victim.owner.until(lambda: len(calls.victim.owner.texts[-1]) == MAX_MESSAGE_BYTES)
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() == 0


async def is_ended(calls: Calls, fault: str) -> None:
    """The victim's call ends for what it did, not as if it had wished to."""
    reason = await calls.outcome()
    assert reason != "works"
    assert calls.victim.faults[fault] >= 1
    assert calls.victim.owner.ended is not None
    assert calls.victim.owner.ended[1] is not None, f"{reason}, as if it were nobody's fault"


async def test_a_message_that_is_too_large(calls: Calls) -> None:
    """One of more than was announced ends its call."""
    with suppress(ConnectionError):
        await calls.victim.send_message(b"x" * (MAX_MESSAGE_BYTES + 40_000))
    await is_ended(calls, "sctp_over_limit")


async def send_by(caller: Caller, chunks: list[bytes], per_packet: int) -> None:
    """Sends ``chunks`` as fast as the caller's end of the call allows, until it is ended."""
    for at in range(0, len(chunks), per_packet):
        if caller.owner.ended is not None or caller.dtls.state != "connected":
            return
        await caller.send_sctp(*chunks[at : at + per_packet])
        await asyncio.sleep(0)


async def test_messages_that_never_end(calls: Calls) -> None:
    """Unfinished messages are held up to a bound; over it the call ends."""
    size = 1000
    await send_by(calls.victim, calls.victim.pieces(WINDOW_BYTES // size + 10, bytes(size)), 1)
    await is_ended(calls, "sctp_over_limit")


def has_come(caller: Caller, tsn: int) -> bool:
    """Everything up to this TSN has come to the peer of ``caller``, or it has ended the call."""
    association = caller.peer._secure._sctp
    assert association is not None
    return caller.owner.ended is not None or uint32_gte(association._last_received_tsn or 0, tsn)


@pytest.mark.parametrize("size", [1000, 1])
@pytest.mark.parametrize("kind", ["message", "messages"])
async def test_a_gap_hides_nothing(calls: Calls, kind: str, size: int) -> None:
    """While a packet is missing, what comes in order is bounded as well: one message without end, or many too early."""
    victim, count = calls.victim, 900 if size > 1 else 3000
    first, stream = victim.association._local_tsn, victim.channel.id or 0
    sequence = victim.association._outbound_stream_seq.get(stream, 0)
    far = data_chunk((first + 60_000) % 2**32, b"far ahead", stream=stream, sequence=sequence + 9)
    if kind == "message":
        chunks = victim.pieces(count, bytes(size))
    else:
        chunks = [
            data_chunk((first + n) % 2**32, bytes(size), stream=stream, sequence=sequence + 5) for n in range(count)
        ]
    await victim.send_sctp(far)
    per_packet = 1 if size > 1 else 40
    for at in range(0, count, per_packet):
        await victim.send_sctp(*chunks[at : at + per_packet])
        last = (first + at + len(chunks[at : at + per_packet]) - 1) % 2**32
        while victim.owner.ended is None and not has_come(victim, last):  # noqa: ASYNC110 (no event tells of it)
            await asyncio.sleep(0)
        if victim.owner.ended is not None:
            break
    await is_ended(calls, "sctp_over_limit")


@pytest.mark.parametrize("size", [0, 1])
async def test_messages_in_crumbs(calls: Calls, size: int) -> None:
    """Thousands of pieces of next to nothing are bounded by their number: each costs more than the one before."""
    await send_by(calls.victim, calls.victim.pieces(5000, bytes(size)), 58)
    outcome = await calls.outcome()
    assert outcome != "works" or size == 0, "which RFC 9260 section 3.3.1 does not know, and may be dropped"
    assert calls.victim.faults.total() >= 1


def numbered(caller: Caller, texts: list[str]) -> list[bytes]:
    """A chunk for each message, with the numbers that follow."""
    first = caller.association._local_tsn
    sequence = caller.association._outbound_stream_seq[caller.channel.id or 0]
    return [data_chunk((first + n) % 2**32, text.encode(), sequence=sequence + n) for n, text in enumerate(texts)]


async def test_misordered_chunks(calls: Calls) -> None:
    """Chunks with gaps between them are held up to a bound; those over it are lost, and may come again."""
    victim = calls.victim
    texts = [f"message {n}" for n in range(2000)]
    chunks = numbered(victim, texts)
    await send_by(victim, chunks[1::2], 40)
    await send_by(victim, chunks, 40)
    await victim.owner.until(lambda: texts[-1] in victim.owner.texts)
    assert [text for text in victim.owner.texts if text.startswith("message")] == texts
    assert victim.faults["sctp_no_room"] == 1000 - 512


async def test_a_lost_packet_before_many_messages(calls: Calls) -> None:
    """What comes behind a packet that was lost may be as much as our window: it waits, and nobody has misbehaved."""
    victim = calls.victim
    texts = [f"message {n}".ljust(1100) for n in range(400)]
    chunks = numbered(victim, texts)
    await send_by(victim, chunks[1:], 1)
    await send_by(victim, chunks[:1], 1)
    await victim.owner.until(lambda: texts[-1] in victim.owner.texts)
    assert [text for text in victim.owner.texts if text.startswith("message")] == texts


async def test_streams_without_end(calls: Calls) -> None:
    """Streams are held up to a bound, whatever their ids; over it the call ends, and is told why."""
    victim = calls.victim
    first = victim.association._local_tsn
    chunks = [data_chunk((first + n) % 2**32, b"x", stream=900 * n + 5) for n in range(70)]
    await send_by(victim, chunks, 1)
    await is_ended(calls, "sctp_over_limit")


async def test_channels_one_after_another(calls: Calls) -> None:
    """A channel that is closed makes room for another, however many there were."""
    victim = calls.victim
    for _ in range(70):
        channel = victim.pc.createDataChannel("other")
        await victim.until_open(channel)
        closed = asyncio.Event()
        channel.on("close", closed.set)
        channel.close()
        async with asyncio.timeout(WITHIN_S):
            await closed.wait()
    assert await calls.outcome() == "works"


async def test_overlapping_gap_blocks(calls: Calls) -> None:
    """A SACK cannot make the bridge go over the same chunks again and again (RFC 9260 section 3.3.4)."""
    victim = calls.victim
    acknowledged = victim.association._last_received_tsn
    assert acknowledged is not None

    async def stay_silent() -> None:
        """In place of the client's own SACKs."""

    victim.association._send_sack = stay_silent  # type: ignore[method-assign]
    for _ in range(400):
        victim.owner.sinks[0].send_message(EncodedMessage(b"y" * 60))
    await calls.witness.works()
    outstanding = len(victim.heard) - 1
    attack = sack(*[(1, outstanding + 1000)] * outstanding, cumulative_tsn=acknowledged)
    for _ in range(40):
        await victim.send_sctp(*[attack] * (1100 // len(attack)))
    await victim.speak()
    await calls.witness.works()
    assert calls.watch.longest_s < LONGEST_BLOCK_S
    assert not is_well_formed(bytes(12) + attack, outstanding=outstanding)


async def test_bad_packets_without_end(calls: Calls) -> None:
    """A few bad packets are a bad network, a hundred are an attack: the call ends."""
    await send_by(calls.victim, [raw_chunk(4, NO_LENGTH)] * 120, 1)
    await is_ended(calls, "malformed_sctp")


# Ourselves


async def speak(caller: Caller) -> None:
    await caller.send_rtp(caller.rtp(caller.opus()))


async def write(caller: Caller) -> None:
    caller.channel.send("{}")


async def listen(caller: Caller) -> None:
    caller.peer.play(PART, bytes(9600))


@pytest.mark.parametrize(
    ("handler", "trigger"), [("receive_leg_audio", speak), ("receive_leg_text", write), ("played", listen)]
)
async def test_an_exception_in_the_owner(calls: Calls, handler: str, trigger: Trigger) -> None:
    """Whatever goes wrong in the handling of one call's sound or events ends that call as ours to answer for."""
    calls.victim.owner.broken.add(handler)
    await trigger(calls.victim)
    assert await calls.victim.owner.until_ended() == "internal_error"
    assert await calls.outcome() == "internal_error"
    assert calls.victim.faults["handler_error"] == 1


@pytest.mark.parametrize("handler", ["leg_connected", "channel_opened"])
async def test_an_exception_in_the_owner_while_connecting(
    endpoint: Endpoint, place_call: Placing, handler: str
) -> None:
    """The same at the beginning of a call."""
    witness = await place_call(endpoint)
    victim = await place_call(endpoint, is_connected=False)
    victim.owner.broken.add(handler)
    await victim.offer()
    assert await victim.owner.until_ended() == "internal_error"
    assert victim.faults["handler_error"] == 1
    await witness.works()


async def test_an_exception_in_the_owner_at_the_end(place_call: Placing) -> None:
    """An owner that fails when it is told of its call's end takes no other call and not the endpoint with it."""
    endpoint = Endpoint(LOOPBACK, 0)

    async def end_one_of_two() -> None:
        async with endpoint:
            victim, witness = await place_call(endpoint), await place_call(endpoint)
            victim.owner.broken.add("leg_closed")
            victim.peer.hang_up("enough")
            await victim.owner.until_ended()
            await witness.works()

    task = asyncio.ensure_future(end_one_of_two())  # what fails in an endpoint's tasks cancels the task that opened it
    await asyncio.wait({task})
    clock, socket = endpoint.runner._timer, endpoint.mux._transport
    assert socket is not None
    is_closed = clock is None and socket.is_closing()
    if clock is not None:
        clock.cancel()  # what runs on would keep uvloop from closing, and this test's failure from being seen
    socket.close()
    assert not task.cancelled()
    assert task.exception() is None
    assert is_closed


def limited(limit: int) -> Any:
    return lambda text: text.replace("a=max-message-size:262144", f"a=max-message-size:{limit}")


@pytest.mark.parametrize(("limit", "is_told"), [(1024, True), (16, False)])
async def test_an_event_over_the_peers_limit(
    endpoint: Endpoint, place_call: Placing, limit: int, is_told: bool
) -> None:
    """An event that the peer cannot take never raises: an error takes its place, or nothing if that is too much too."""
    caller = await place_call(endpoint, patch=limited(limit))
    caller.owner.sinks[0].send_message(EncodedMessage(b"z" * 2000))
    caller.owner.sinks[0].send_message(EncodedMessage(b"small"))
    async with asyncio.timeout(WITHIN_S):
        while "small" not in caller.heard:
            await caller.hear()
    assert any("event_too_large" in text for text in caller.heard) is is_told
