"""Peers that turn up at another address: known by their sound, asked there, and followed once they have answered."""

import pytest
from aioice import stun

from bridge.webrtc.ice import Address, PacketKind
from tests.webrtc.calling import NotedSound
from tests.webrtc.test_mux import CLIENT_HELLO, FORGED, PEER, RTP, STRANGER, Wire

ELSEWHERE: Address = ("192.0.2.7", 50_000)
THEIRS = ("their", "their-password-of-24-char")


@pytest.fixture
def wire() -> Wire:
    return Wire()


class Willing(NotedSound):
    """It can decrypt whatever comes."""

    def receive_srtp(self, kind: PacketKind, datagram: bytes, now: float) -> bool:
        super().receive_srtp(kind, datagram, now)
        return True


def moved(wire: Wire, datagram: bytes = RTP) -> list[stun.Message]:
    """The checks that are sent to a peer which is known at ``PEER`` when ``datagram`` comes from elsewhere."""
    wire.agent.expect(*THEIRS)
    wire.agent.claim(datagram[8:12])
    if wire.target is None:
        wire.check()
    return [stun.parse_message(data) for data in wire.receive(datagram, ELSEWHERE)]


def agreed(request: stun.Message, *, pwd: str = THEIRS[1]) -> bytes:
    """The peer's answer to a check of ours."""
    answer = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.RESPONSE,
        transaction_id=request.transaction_id,
    )
    answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 8080)
    answer.add_message_integrity(pwd.encode())
    return bytes(answer)


def test_sound_from_elsewhere_is_taken_and_asked_after(wire: Wire) -> None:
    """A peer's own packet from a new address is heard at once, and the peer is asked there whether it is there."""
    (request,) = moved(wire)
    assert wire.media == [(PacketKind.RTP, RTP)]
    assert request.attributes["USERNAME"] == f"their:{wire.agent.ufrag}"
    assert request.check_message_integrity(THEIRS[1].encode())
    assert "ICE-CONTROLLED" in request.attributes
    assert wire.target == PEER


async def test_a_peer_that_answers_is_there(wire: Wire) -> None:
    """With its answer everything else follows it: sound both ways and the data channel."""
    (request,) = moved(wire)
    assert wire.receive(agreed(request), ELSEWHERE) == []
    assert wire.target == ELSEWHERE
    assert wire.agent.moves == 1
    wire.mux.datagram_received(CLIENT_HELLO, ELSEWHERE)
    assert await wire.agent.dtls.get() == CLIENT_HELLO


def test_who_cannot_answer_is_not_sent_to(wire: Wire) -> None:
    """An answer with another password, from another address, or to no question moves nothing."""
    (request,) = moved(wire)
    wire.receive(agreed(request, pwd=wire.agent.pwd), ELSEWHERE)
    wire.receive(agreed(request), STRANGER)
    request.transaction_id = wire.agent.ufrag.encode() + b"1234"
    wire.receive(agreed(request), ELSEWHERE)
    request.transaction_id = bytes(12)
    wire.receive(agreed(request), ELSEWHERE)
    assert wire.target == PEER
    assert wire.mux.drops["other_stun"] == 4


def test_what_is_not_the_peers_asks_nothing(wire: Wire) -> None:
    """A packet with the right SSRC that SRTP refuses, or with one that nobody has, is a stranger's."""
    assert moved(wire, FORGED) == []
    assert wire.receive(RTP[:8] + b"none" + RTP[12:], ELSEWHERE) == []
    assert wire.mux.drops["unknown_source"] == 2


def test_a_peer_is_not_asked_with_each_packet(wire: Wire) -> None:
    """While an answer is on its way nothing more is asked; after 100 ms once more."""
    moved(wire)
    for _ in range(10):
        wire.now += 0.009
        assert moved(wire) == []
    wire.now += 0.02
    assert len(moved(wire)) == 1


def test_two_peers_of_one_ssrc(wire: Wire) -> None:
    """Where two calls have the same SSRC, each packet still finds the one that can decrypt it."""
    other = wire.mux.new_agent()
    noted = Willing(wire)
    other.attach(noted)
    other.expect(*THEIRS)
    other.claim(FORGED[8:12])
    moved(wire, FORGED)
    assert noted.packets == [FORGED]
    other.close()
    wire.agent.close()
    assert wire.mux.by_ssrc == {}
