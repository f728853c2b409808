"""What a hostile peer's RTP and RTCP can do to a live call; see ``test_guards`` for the rest."""

import pytest

from tests.peer.calling import Calls

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
    with monkeypatch.context() as patched:
        patched.setattr(caller.peer, "_unprotect", lambda packet: cut)
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
    assert calls.victim.peer.reports.malformed == (10 if is_counted else 0)


async def test_hundreds_of_ssrcs(calls: Calls) -> None:
    """Streams beyond the first few are dropped before they cost anything; the first one is still heard."""
    for ssrc in range(300):
        await calls.victim.send_rtp(calls.victim.rtp(calls.victim.opus(), sequence=1, ssrc=ssrc))
    assert await calls.outcome() == "works"
    assert calls.victim.faults["too_many_ssrcs"] >= 290


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
