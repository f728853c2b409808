"""Which sections of an offer become the call, what the answer says of the others, and what is read leniently."""

import time
from contextlib import suppress

import pytest

from bridge.errors import BadOffer
from bridge.webrtc.sdp import Offer, parse_offer, parse_remote, write_answer
from tests.machine import scaled
from tests.webrtc.test_sdp import APPLICATION, AUDIO, CHROME, OURS, SESSION, VIDEO, answered, without

BUNDLE_OF_THREE = SESSION.replace("BUNDLE 0 1", "BUNDLE 0 1 2")
SECOND = AUDIO.replace("a=mid:0", "a=mid:2")
UNBUNDLED = SESSION.replace("a=group:BUNDLE 0 1\r\n", "")
LONGEST_PARSE_S = scaled(1.0)
"""The offers that took seconds have to be far from it, on any machine."""


def turned(section: str, direction: str) -> str:
    return section.replace("a=sendrecv", f"a={direction}")


def mids(offer: Offer) -> tuple[str, str]:
    """Of the section in which the peer speaks, and of that in which it hears."""
    assert offer.inbound is not None
    assert offer.outbound is not None
    return offer.inbound.mid, offer.outbound.mid


@pytest.mark.parametrize(
    ("first", "second", "used", "directions"),
    [
        ("recvonly", "sendonly", ("2", "0"), ["sendonly", "recvonly"]),
        ("sendonly", "recvonly", ("0", "2"), ["recvonly", "sendonly"]),
        ("inactive", "sendrecv", ("2", "2"), ["inactive", "sendrecv"]),
        ("recvonly", "sendrecv", ("2", "2"), ["inactive", "sendrecv"]),
        ("sendrecv", "sendrecv", ("0", "0"), ["sendrecv", "inactive"]),
        ("inactive", "recvonly", ("2", "2"), ["inactive", "sendonly"]),
        ("inactive", "inactive", ("0", "0"), ["inactive", "inactive"]),
    ],
)
def test_sections_are_chosen_by_direction(
    first: str, second: str, used: tuple[str, str], directions: list[str]
) -> None:
    """The peer speaks in the section that sends and hears in the one that receives, wherever they stand."""
    offer, answer = answered(BUNDLE_OF_THREE + turned(AUDIO, first) + APPLICATION + turned(SECOND, second))
    assert mids(offer) == used
    sounds = [media for media in answer.media if media.kind == "audio"]
    assert [media.direction for media in sounds] == directions
    assert all(media.port for media in answer.media)
    hearing = [media.rtp.muxId for media in sounds if media.ssrc]
    assert hearing == ([used[1]] if "recv" in first + second else [])
    assert offer.sends_audio is any("send" in direction for direction in (first, second))
    assert offer.receives_audio is any("recv" in direction for direction in (first, second))


def test_each_section_has_its_own_payload_types() -> None:
    """Two sections may give Opus two numbers: each is answered with its own."""
    hearing = turned(AUDIO, "recvonly").replace("111", "96")
    offer, answer = answered(BUNDLE_OF_THREE + hearing + APPLICATION + turned(SECOND, "sendonly"))
    assert offer.inbound is not None
    assert offer.outbound is not None
    assert (offer.inbound.opus, offer.outbound.opus) == (111, 96)
    assert [media.fmt[0] for media in answer.media if media.kind == "audio"] == [96, 111]


@pytest.mark.parametrize(
    ("sections", "ports", "unused"),
    [
        ([AUDIO, APPLICATION, VIDEO], [9, 9, 9], "video section '2'"),
        ([VIDEO, AUDIO, APPLICATION], [9, 9, 9], "video section '2'"),
        ([AUDIO, APPLICATION, turned(VIDEO, "inactive")], [9, 9, 9], None),
        ([AUDIO, APPLICATION, SECOND], [9, 9, 9], "audio section '2'"),
        ([AUDIO, APPLICATION, APPLICATION.replace("a=mid:1", "a=mid:2")], [9, 9, 0], "application section '2'"),
        ([AUDIO, APPLICATION, VIDEO.replace("a=mid:2", "a=mid:3")], [9, 9, 0], "video section '3'"),
        ([AUDIO.replace("m=audio 9", "m=audio 0"), SECOND], [0, 9], None),
        ([AUDIO.replace("m=audio 9", "m=audio 0"), APPLICATION], [0, 9], None),
    ],
)
def test_what_is_of_no_use_is_named(sections: list[str], ports: list[int], unused: str | None) -> None:
    """Video and second sections carry nothing: inactive in the bundle, else rejected; a warning names them."""
    offer, answer = answered(BUNDLE_OF_THREE + "".join(sections))
    assert [media.port for media in answer.media] == ports
    assert [media.rtp.muxId for media in answer.media] == [media.value("mid") for media in offer.media]
    in_use = {media.value("mid") for media in offer.accepted}
    (group,) = answer.group
    assert set(group.items) == in_use == {m.rtp.muxId for m in answer.media if m.port}
    assert group.items == sorted(group.items), "in the order of the offer's group"
    carrying = [media for media in answer.media if media.port and media.direction != "inactive"]
    assert len({media.kind for media in carrying}) == len(carrying)
    if unused is None:
        assert offer.warnings == ()
    else:
        assert [warning.code for warning in offer.warnings] == ["unused_sections"]
        assert unused in offer.warnings[0].message


def test_every_section_of_an_answer_has_its_lines() -> None:
    """Accepted or not, a section says what a strict client looks for: ICE, DTLS and a codec that was offered."""
    second = APPLICATION.replace("a=mid:1", "a=mid:3")
    _, answer = answered(BUNDLE_OF_THREE + AUDIO + APPLICATION + VIDEO + VIDEO.replace("a=mid:2", "a=mid:4") + second)
    assert [media.port for media in answer.media] == [9, 9, 9, 0, 0]
    for media in answer.media:
        assert media.ice is not None
        assert media.ice.usernameFragment == OURS.ice_ufrag
        assert media.dtls is not None
        assert media.dtls.role == "server"
        assert media.ice_candidates_complete
        assert bool(media.ice_candidates) is bool(media.port), "a rejected section leads nowhere"
        if media.kind == "video":
            assert media.rtcp_mux
            assert [codec.mimeType for codec in media.rtp.codecs] == ["video/VP8", "video/rtx"]


def test_the_transport_is_that_of_the_bundles_first_section() -> None:
    """Sections that are there in a bundle only need no lines of a transport of their own (RFC 8843 section 7.2)."""
    audio = without(AUDIO, "a=ice-", "a=fingerprint", "a=setup").replace("m=audio 9", "m=audio 0")
    audio += "a=bundle-only\r\n"
    application = APPLICATION.replace("4ZcD", "5AdE")
    offer, answer = answered(SESSION.replace("BUNDLE 0 1", "BUNDLE 1 0") + application + audio)
    assert offer.ice_ufrag == "5AdE"
    assert [media.port for media in answer.media] == [9, 9]
    assert [group.items for group in answer.group] == [["1", "0"]]


@pytest.mark.parametrize(
    ("sections", "used", "unused"),
    [
        ([AUDIO, APPLICATION], ["audio"], "application section '1'"),
        ([turned(AUDIO, "inactive"), APPLICATION, SECOND], ["audio"], "application section '1'"),
        ([AUDIO], ["audio"], None),
    ],
)
def test_an_offer_without_a_bundle_is_told(sections: list[str], used: list[str], unused: str | None) -> None:
    """One transport carries one section; which others are lost is said."""
    offer, answer = answered(UNBUNDLED + "".join(sections))
    assert [media.kind for media in answer.media if media.port] == used
    assert answer.group == []
    assert [warning.code for warning in offer.warnings] == ([] if unused is None else ["no_bundle"])
    assert unused is None or unused in offer.warnings[0].message


# Read leniently


@pytest.mark.parametrize("encoding", ["opus/48000", "opus/48000/1", "opus/16000/1", "OPUS/24000", "opus/48000/2"])
def test_opus_by_other_names(encoding: str) -> None:
    """Small devices call Opus what they take it for; it is answered as it was offered, because they compare."""
    offer, _ = answered(CHROME.replace("opus/48000/2", encoding))
    assert offer.opus_payload_type == 111
    assert f"a=rtpmap:111 {encoding}\r\n" in write_answer(offer, OURS)


def test_the_standard_name_of_opus_counts_first() -> None:
    """Of two payload types with Opus the one that is called right is taken."""
    odd = AUDIO.replace("SAVPF 111", "SAVPF 112 111").replace("a=rtpmap:111", "a=rtpmap:112 opus/48000\r\na=rtpmap:111")
    assert answered(SESSION + odd + APPLICATION)[0].opus_payload_type == 111


@pytest.mark.parametrize("encoding", ["opus/44100/2", "opus/48000/6", "multiopus/48000/6", "opus", "xopus/48000/2"])
def test_what_is_no_opus_that_we_know(encoding: str) -> None:
    """Other codecs are no Opus."""
    with pytest.raises(BadOffer) as caught:
        parse_offer(without(CHROME, "a=rtpmap:63").replace("opus/48000/2", encoding).encode())
    assert caught.value.param == "rtpmap"


@pytest.mark.parametrize("parse", [parse_offer, parse_remote], ids=["offer", "answer"])
@pytest.mark.parametrize("credential", ["aB_=-9", "x" * 4, "+/+/", "a.b~c:d", "=" * 256])
def test_ice_credentials_of_many_clients(parse: object, credential: str) -> None:
    """Characters that the grammar does not have, and clients do, are read in offers and in upstreams' answers."""
    text = CHROME.replace("a=ice-ufrag:4ZcD", f"a=ice-ufrag:{credential}")
    text = text.replace("a=ice-pwd:2/1muCWoOi3uLifh0NuRHlig", f"a=ice-pwd:{credential}{'_' * 18}"[: 10 + 256])
    offer = parse_remote(text.encode()) if parse is parse_remote else parse_offer(text.encode())
    assert offer.ice_ufrag == credential


# As long as it takes


@pytest.mark.parametrize(
    "line",
    [
        "a=rtpmap:111 red/48000/2\r\na=fmtp:111 1/1",
        "a=rtpmap:63 red/48000/2\r\na=fmtp:63 9/9",
        "a=fmtp:111 a=b",
        "a=extmap:1 x",
        "a=rtcp-fb:1 nack",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 8),
        "a=candidate:1",
        "a=group:BUNDLE 0 1 2 3",
        "a=mid:0",
    ],
)
def test_lines_that_multiply(line: str) -> None:
    """As many lines as an offer may have are read, or refused, in a time that grows with their number alone."""
    lines = f"{line}\r\n" * (1000 // (line.count("\r\n") + 1))
    sections = "".join(AUDIO.replace("a=mid:0", f"a=mid:{mid}") + lines for mid in (0, 2, 3))
    text = (SESSION + lines.replace("a=mid:0", "a=x") + sections + APPLICATION)[: 128 * 1024]
    began = time.thread_time()
    with suppress(BadOffer):
        write_answer(parse_offer(text.encode()), OURS)
    assert time.thread_time() - began < LONGEST_PARSE_S
