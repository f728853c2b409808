"""A peer that offers again in mid-call: an ICE restart, a repeat, a change of direction; and another peer."""

import re

import pytest

from bridge.errors import BadOffer
from bridge.media.playback import Part
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.sdp import parse_offer
from tests.webrtc.calling import Caller
from tests.webrtc.conftest import Placing
from tests.webrtc.ear import Ear
from tests.webrtc.test_peer import other_fingerprint

PART = Part("resp_1", "item_1", 0, 0)


def offer_of(caller: Caller) -> str:
    sdp: str = caller.pc.localDescription.sdp
    return sdp


def again(caller: Caller, sdp: str) -> str | None:
    return caller.endpoint.answer_again(caller.peer, parse_offer(sdp.encode()))


def restarted(sdp: str) -> str:
    """The offer with new credentials, all else unchanged."""
    sdp = re.sub(r"a=ice-ufrag:\S+", "a=ice-ufrag:fresh", sdp)
    return re.sub(r"a=ice-pwd:\S+", f"a=ice-pwd:{'n' * 22}", sdp)


def credentials_in(answer: str) -> set[tuple[str, str]]:
    return set(zip(re.findall(r"a=ice-ufrag:(\S+)", answer), re.findall(r"a=ice-pwd:(\S+)", answer), strict=True))


async def test_the_same_offer_twice(endpoint: Endpoint, place_call: Placing) -> None:
    """A repeated offer is answered word for word as before, and the call goes on."""
    caller = await place_call(endpoint)
    first = caller.peer.negotiation.answer
    assert again(caller, offer_of(caller)) == first == again(caller, offer_of(caller))
    assert len(endpoint.peers) == 1
    await caller.works()


async def test_an_ice_restart(endpoint: Endpoint, place_call: Placing) -> None:
    """New credentials are answered with new ones for the same secure connection; the old way lives until it is used."""
    caller = await place_call(endpoint)
    answer = again(caller, restarted(offer_of(caller)))
    assert answer is not None
    assert again(caller, restarted(offer_of(caller))) == answer
    await caller.works()
    connection = caller.dtls.transport._connection
    before = (connection.remote_username, connection.remote_password)
    (pair,) = credentials_in(answer)
    assert pair != before
    connection._local_username, connection._local_password = "fresh", "n" * 22
    connection.remote_username, connection.remote_password = pair
    candidate = connection._nominated[1]
    request = connection.build_request(candidate, nominate=True)
    await candidate.protocol.request(request, candidate.remote_addr, integrity_key=pair[1].encode())
    assert set(endpoint.mux.agents) == {pair[0]}
    await caller.works()
    assert caller.faults.total() == 0


async def test_a_restart_that_nobody_follows(endpoint: Endpoint, place_call: Placing) -> None:
    """Restarts whose peer stays where it is change nothing, however many."""
    caller = await place_call(endpoint)
    for number in range(5):
        assert again(caller, restarted(offer_of(caller)).replace("fresh", f"fresh{number}")) is not None
    assert len(endpoint.mux.agents) == 2
    await caller.works()


async def test_hold(endpoint: Endpoint, place_call: Placing) -> None:
    """A peer that offers again to hear no more is not sent to any more, until it wants to."""
    caller = await place_call(endpoint)
    ear = Ear(caller)
    held = offer_of(caller).replace("a=sendrecv", "a=sendonly")
    answer = again(caller, held)
    assert answer is not None
    assert "a=recvonly" in answer
    await caller.works()  # what was on its way, such as the silence of the beginning, has come
    ear.rtp.clear()
    caller.peer.play(PART, bytes(9600))
    await caller.works()
    assert ear.rtp == []
    again(caller, offer_of(caller))
    caller.peer.play(PART, bytes(9600))
    await ear.until(lambda: len(ear.rtp) >= 10)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (lambda sdp: sdp.replace("m=application 9", "m=application 0"), "m"),
        (lambda sdp: sdp.replace("rtpmap:96 opus", "rtpmap:97 opus").replace("SAVPF 96", "SAVPF 97 96"), "rtpmap"),
    ],
)
async def test_what_cannot_be_changed(endpoint: Endpoint, place_call: Placing, change: object, param: str) -> None:
    """An offer that gives a running call another data channel or another number for Opus is refused by name."""
    caller = await place_call(endpoint)
    assert callable(change)
    port = re.search(r"m=application (\d+)", offer_of(caller))
    assert port is not None
    offer = change(offer_of(caller).replace(port[0], "m=application 9"))
    with pytest.raises(BadOffer) as caught:
        again(caller, offer)
    assert caught.value.param == param
    await caller.works()


@pytest.mark.parametrize(
    "change",
    [
        other_fingerprint,
        lambda sdp: re.sub(r"o=- \d+", "o=- 1", sdp),
        lambda sdp: sdp.replace("a=setup:actpass", "a=setup:passive\r\na=tls-id:aaaaaaaaaaaaaaaaaaaa"),
        lambda sdp: sdp.replace("a=setup:actpass", "a=setup:passive"),
    ],
    ids=["certificate", "origin", "tls-id", "role"],
)
async def test_another_peer(endpoint: Endpoint, place_call: Placing, change: object) -> None:
    """Another certificate, connection, association or role is no restart: it takes a peer of its own."""
    caller = await place_call(endpoint)
    assert callable(change)
    assert again(caller, change(restarted(offer_of(caller)))) is None
    await caller.works()


async def test_a_peer_that_is_gone(endpoint: Endpoint, place_call: Placing) -> None:
    """A call that has ended is not restarted."""
    caller = await place_call(endpoint)
    caller.peer.hang_up("enough")
    assert again(caller, restarted(offer_of(caller))) is None
    assert await caller.owner.until_ended() == "enough"
