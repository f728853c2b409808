"""What a hostile peer's RTP and RTCP can do to a live call; see ``test_guards`` for the rest."""

import asyncio

import pytest

from bridge.webrtc import streams
from bridge.webrtc.ice import PacketKind
from tests.webrtc.calling import FRAME_SAMPLES, Caller, Calls, NotedSound

SAMPLES_PER_S = 24_000


def padded(packet: bytes, count: int) -> bytes:
    """``packet`` that claims ``count`` bytes of padding."""
    return bytes([packet[0] | 0x20]) + packet[1:-1] + bytes([count])


@pytest.mark.parametrize(
    ("payload", "padding", "is_counted"),
    [
        pytest.param(b"", None, False, id="no payload"),
        pytest.param(bytes(20), 20, False, id="nothing but padding"),
        pytest.param(bytes(20), 21, True, id="more padding than packet"),
        pytest.param(bytes(20), 255, True, id="much more padding than packet"),
        pytest.param(b"\xff\xff\xff", None, True, id="63 Opus frames in 3 bytes"),
        pytest.param(b"\x03", None, True, id="Opus without its frame count"),
        pytest.param(b"\xff" * 1100, None, True, id="Opus of nothing but ones"),
    ],
)
async def test_malformed_rtp(calls: Calls, payload: bytes, padding: int | None, is_counted: bool) -> None:
    """Packets without sound in them cost nothing but themselves."""
    for _ in range(20):
        packet = calls.victim.rtp(payload)
        await calls.victim.send_rtp(packet if padding is None else padded(packet, padding))
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() == (20 if is_counted else 0)


async def test_a_header_extension_that_is_cut_off(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that ends before it says it does costs its packet; libsrtp refuses it, and so do we without its help."""
    caller = calls.victim
    cut = bytes([0x90]) + caller.rtp(b"\xbe\xde\x40\x00")[1:]
    keys = caller.peer.rtp._keys
    assert keys is not None
    with monkeypatch.context() as patched:
        patched.setattr(caller.peer.rtp, "_keys", keys._replace(unprotect=lambda packet: cut))
        await caller.send_rtp(caller.rtp(caller.opus()))
        await calls.witness.works()
    assert await calls.outcome() == "works"
    assert caller.faults == {"malformed": 1}


@pytest.mark.parametrize(
    ("packet", "is_counted"),
    [
        pytest.param(bytes([0x81, 203, 0, 1]) + bytes([0, 0, 0xCA, 0x11]), False, id="BYE"),
        pytest.param(bytes([0x81, 203, 0, 2]) + bytes([0, 0, 0xCA, 0x11]) + b"\x03end", False, id="BYE with a reason"),
        pytest.param(bytes([0x9F, 200, 255, 255]) + bytes(4), True, id="SR cut off"),
        pytest.param(bytes([0x9F, 201, 0, 1]) + bytes(4), True, id="RR of 31 missing blocks"),
        pytest.param(bytes([0xBF, 202, 0, 9]) + b"\xff" * 40, True, id="SDES of ones"),
        pytest.param(
            bytes([0x8F, 206, 0, 4]) + bytes(8) + b"REMB" + bytes([255, 255, 255, 255]), False, id="REMB cut off"
        ),
        pytest.param(bytes([0x81, 205, 0, 3]) + bytes(12), False, id="NACK of everything"),
        pytest.param(bytes([0x80, 223, 0, 0]) + bytes(1000), True, id="unknown type"),
    ],
)
async def test_rtcp(calls: Calls, packet: bytes, is_counted: bool) -> None:
    """No RTCP, well-formed or not, ends a call or its sound; a BYE neither."""
    sender = calls.victim.dtls
    for _ in range(10):
        await sender.transport._send(sender._tx_srtp.protect_rtcp(packet))
    assert await calls.outcome() == "works"
    assert calls.victim.faults.total() == 0
    assert calls.victim.peer.rtp.reports.malformed == (10 if is_counted else 0)


async def test_hundreds_of_ssrcs(calls: Calls) -> None:
    """Streams beyond the first few are dropped before they cost anything; the first one is still heard."""
    for ssrc in range(300):
        await calls.victim.send_rtp(calls.victim.rtp(calls.victim.opus(), sequence=1, ssrc=ssrc))
    assert await calls.outcome() == "works"
    assert calls.victim.faults["too_many_ssrcs"] >= 290


async def begin_anew(caller: Caller, ssrc: int) -> None:
    """Speaks as another stream, until that is the one that is heard, all but its first packets."""
    caller.ssrc = ssrc
    loud, packets = caller.owner.loud_samples, caller.peer.rtp.inbound.stats.packets
    loud += 4 * FRAME_SAMPLES // 2
    for _ in range(6):  # of which two are needed to know that it has begun anew
        await caller.send_rtp(caller.rtp(caller.opus()))
    await caller.owner.until(lambda: caller.peer.rtp.inbound.ssrc == ssrc and caller.owner.loud_samples >= loud)
    await caller.owner.until(lambda: caller.peer.rtp.inbound.stats.packets >= packets + 4)


async def test_a_caller_that_begins_anew_again_and_again(calls: Calls) -> None:
    """Each hold and transfer may bring another SSRC: all are heard, and SRTP keeps state for the last few alone."""
    caller = calls.victim
    for number in range(14):
        await begin_anew(caller, 0xBEEF + number)
    assert caller.faults.total() == 0
    assert len(caller.peer.rtp.streams.heard_at) == 8
    assert len(caller.endpoint.mux.by_ssrc) <= 8 + 1, "and the witness's"
    await calls.witness.works()


async def test_a_stream_that_made_room_is_over(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay of what was said under an SSRC that SRTP no longer knows is not heard again."""
    caller = calls.victim
    noted = NotedSound(caller.peer.rtp)
    with monkeypatch.context() as patched:
        patched.setattr(caller.peer.ice, "media", noted)
        await begin_anew(caller, 0xBEEF)
    for number in range(12):
        await begin_anew(caller, 0xCAFE + number)
    packets = caller.peer.rtp.inbound.stats.packets
    replayed = [datagram for datagram in noted.packets if datagram[8:12] == (0xBEEF).to_bytes(4)]
    for datagram in replayed:
        assert not caller.peer.rtp.receive_srtp(PacketKind.RTP, datagram, asyncio.get_running_loop().time())
    assert caller.faults == {"retired_ssrc": len(replayed)}
    assert len(replayed) == 6
    assert caller.peer.rtp.inbound.stats.packets == packets


@pytest.mark.parametrize("times", [1, 3])
async def test_srtp_that_is_replayed(calls: Calls, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """A caller's own packets that come once more, at once or long after, are not heard (RFC 3711 section 3.3.2)."""
    caller = calls.victim
    noted = NotedSound(caller.peer.rtp)
    with monkeypatch.context() as patched:
        patched.setattr(caller.peer.ice, "media", noted)
        for _ in range(150):  # more than the window of libsrtp, 128 packets, has
            await caller.send_rtp(caller.rtp(caller.opus()))
        await calls.witness.works()
        seen = tuple(noted.packets)
        assert len(seen) == 150
    packets, doubles = caller.peer.rtp.inbound.stats.packets, caller.peer.rtp.doubles
    for _ in range(times):
        for datagram in seen:
            assert not caller.peer.rtp.receive_srtp(PacketKind.RTP, datagram, asyncio.get_running_loop().time())
    assert caller.peer.rtp.inbound.stats.packets == packets
    assert caller.peer.rtp.doubles - doubles == times * len(seen)
    assert await calls.outcome() == "works"


async def test_streams_without_end(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of streams that made room is bounded: past it no other stream is taken."""
    monkeypatch.setattr(streams, "_MAX_RETIRED_SSRCS", 4)
    caller = calls.victim
    for number in range(11):  # beside the one that was there
        await begin_anew(caller, 0xBEEF + number)
    await caller.send_rtp(caller.rtp(caller.opus(), ssrc=0xD00F))
    await caller.speak(2)
    assert caller.faults == {"too_many_ssrcs": 1}
    assert len(caller.peer.rtp.streams.retired) == 4


async def test_rtp_time_cannot_be_blown_up(calls: Calls) -> None:
    """A packet that claims a second to have passed since the last one, 50 times at once, makes no minute of silence."""

    def heard_s() -> float:
        return len(calls.victim.owner.pcm) / 2 / SAMPLES_PER_S

    before = heard_s()
    for _ in range(50):
        calls.victim.rtp_timestamp += 47_000
        await calls.victim.send_rtp(calls.victim.rtp(calls.victim.opus()))
    await calls.witness.works()
    await calls.victim.speak()
    assert heard_s() - before < 15


@pytest.mark.parametrize("jump", [960_000, -960_000, 2**31, 2**31 - 1])
async def test_rtp_time_that_jumps(calls: Calls, jump: int) -> None:
    """A sender whose clock jumps goes on being heard."""
    calls.victim.rtp_timestamp = (calls.victim.rtp_timestamp + jump) % 2**32
    assert await calls.outcome() == "works"
