"""SRTP by libsrtp's own functions, against pylibsrtp's wrapper at the other end."""

import os

import pylibsrtp
import pytest
from pylibsrtp import Policy, Session

from bridge.webrtc.srtp import SrtpError, SrtpKeys, keys_of

_SSRC = 0x01020304


def _pair(key: bytes) -> tuple[Session, Session]:
    """A session that sends with this key, and one that receives with it."""
    return (
        Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND)),
        Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND)),
    )


@pytest.fixture(params=["known", "unknown"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[SrtpKeys, Session, Session]:
    """Our end, and the other one: what it sends with, and what it receives with; by a version that is known or not."""
    if request.param == "unknown":
        monkeypatch.setattr(pylibsrtp, "__version__", "9.0.0")
    to_us, to_them = os.urandom(30), os.urandom(30)
    theirs, our_receiver = _pair(to_us)
    our_sender, their_receiver = _pair(to_them)
    return keys_of(our_sender, our_receiver), theirs, their_receiver


def _rtp(sequence: int, size: int = 80) -> bytes:
    return b"\x80\x6f" + sequence.to_bytes(2, "big") + bytes(4) + _SSRC.to_bytes(4, "big") + os.urandom(size)


def _rtcp() -> bytes:
    return b"\x80\xc9\x00\x01" + _SSRC.to_bytes(4, "big")


def test_packets_go_both_ways(ends: tuple[SrtpKeys, Session, Session]) -> None:
    """Each end reads what the other one has sent, and packets of any length stay what they are while others come."""
    ours, theirs, their_receiver = ends
    packets = [_rtp(number, size) for number, size in enumerate((0, 1, 80, 160, 1340, 2, 80))]
    sent = [ours.protect(packet) for packet in packets]
    assert [their_receiver.unprotect(datagram) for datagram in sent] == packets
    came = [theirs.protect(packet) for packet in packets]
    assert [ours.unprotect(datagram) for datagram in came] == packets
    assert their_receiver.unprotect_rtcp(ours.protect_rtcp(_rtcp())) == _rtcp()
    assert ours.unprotect_rtcp(theirs.protect_rtcp(_rtcp())) == _rtcp()


def test_what_is_refused(ends: tuple[SrtpKeys, Session, Session]) -> None:
    """Each with its reason; what comes next is read as before."""
    ours, theirs, _ = ends
    datagram = theirs.protect(_rtp(1))
    with pytest.raises(SrtpError, match="authentication"):
        ours.unprotect(datagram[:-1] + bytes((datagram[-1] ^ 1,)))
    assert ours.unprotect(datagram)
    with pytest.raises(SrtpError, match="replay"):
        ours.unprotect(datagram)
    for too_long in (bytes(1501), bytes(100_000)):
        with pytest.raises(SrtpError, match="too long"):
            ours.unprotect(too_long)
    with pytest.raises(SrtpError, match="too long"):
        ours.protect(_rtp(1, 1400))
    for too_short in (b"", b"\x80", bytes(11)):
        with pytest.raises(SrtpError):
            ours.unprotect(too_short)
    assert ours.unprotect(theirs.protect(_rtp(2)))


def test_a_stream_that_is_forgotten_begins_anew(ends: tuple[SrtpKeys, Session, Session]) -> None:
    """Of a stream that made room nothing is known any more, not even which packets came."""
    ours, theirs, _ = ends
    datagram = theirs.protect(_rtp(1))
    first = ours.unprotect(datagram)
    ours.forget_stream(_SSRC)
    assert ours.unprotect(datagram) == first
