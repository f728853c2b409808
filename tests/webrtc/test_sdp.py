"""Offers of every kind that clients make, and of every kind that nobody should."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.sdp import MediaDescription, SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadOffer
from bridge.media.extensions import AUDIO_LEVEL_URI, MID_URI
from bridge.webrtc.sdp import (
    MAX_SDP_BYTES,
    AnswerParameters,
    AudioSection,
    Fingerprint,
    Offer,
    parse_offer,
    write_answer,
)

OFFERS = {path.stem: path.read_text().replace("\n", "\r\n") for path in (Path(__file__).parent / "offers").iterdir()}
CHROME = OFFERS["chrome"]
AUDIO, _, APPLICATION = CHROME[CHROME.index("m=audio") :].partition("m=application")
APPLICATION = f"m=application{APPLICATION}"
SESSION = CHROME[: CHROME.index("m=audio")]
VIDEO = """\
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:2
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlig
a=sendrecv
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
""".replace("\n", "\r\n")
OURS = AnswerParameters(
    ice_ufrag="abcd",
    ice_pwd="0123456789abcdef0123456789abcdef",
    fingerprint=Fingerprint("sha-256", ":".join(["AB"] * 32)),
    addresses=("192.0.2.1", "2001:db8::1"),
    port=8080,
    ssrc=1234,
)


def answered(offer: str) -> tuple[Offer, SessionDescription]:
    """The offer as understood, and the answer as aiortc reads it."""
    parsed = parse_offer(offer.encode())
    return parsed, SessionDescription.parse(write_answer(parsed, OURS))


def is_accepted(media: MediaDescription) -> bool:
    return media.port != 0


def sound_of(offer: Offer) -> AudioSection:
    assert offer.outbound is not None
    return offer.outbound


def without(text: str, *prefixes: str) -> str:
    """``text`` less the lines that begin so."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(prefixes))


# Offers that are answered


@pytest.mark.parametrize("name", OFFERS)
def test_browsers_and_libraries_are_answered(name: str) -> None:
    """Each client's offer is accepted as a whole, with Opus under its own number, the peer active and we passive."""
    offer, answer = answered(OFFERS[name])
    assert all(map(is_accepted, answer.media))
    assert [media.kind for media in answer.media] == [media.kind for media in offer.media]
    audio = next(media for media in answer.media if media.kind == "audio")
    assert [codec.name for codec in audio.rtp.codecs] == (["opus", "red"] if name == "chrome" else ["opus"])
    assert audio.fmt[0] == offer.opus_payload_type == (109 if name == "firefox" else 111)
    assert audio.direction == "sendrecv"
    assert audio.rtcp_mux
    for media in answer.media:
        assert media.dtls is not None
        assert media.dtls.role == "server"
        assert media.ice is not None
        assert (media.ice.usernameFragment, media.ice.password) == (OURS.ice_ufrag, OURS.ice_pwd)
        assert [(c.ip, c.port, c.type) for c in media.ice_candidates] == [
            ("192.0.2.1", 8080, "host"),
            ("2001:db8::1", 8080, "host"),
        ]
        assert media.ice_candidates_complete
    assert [group.items for group in answer.group] == [["0", "1"]]
    assert "a=ice-lite\r\n" in write_answer(offer, OURS)


@pytest.mark.parametrize(
    ("name", "extensions"),
    [("chrome", {AUDIO_LEVEL_URI: 1, MID_URI: 4}), ("firefox", {AUDIO_LEVEL_URI: 1, MID_URI: 3}), ("pion", {})],
)
def test_header_extensions_that_we_know_are_agreed_on(name: str, extensions: dict[str, int]) -> None:
    """The section's name and the audio level are accepted under the offer's ids, all others are not."""
    offer, answer = answered(OFFERS[name])
    assert sound_of(offer).extensions == extensions
    audio = next(media for media in answer.media if media.kind == "audio")
    assert {extension.uri: extension.id for extension in audio.rtp.headerExtensions} == extensions


@pytest.mark.parametrize("number", ["0", "15", "300", "4/recvonly", "x", ""])
def test_a_header_extension_that_cannot_be_written(number: str) -> None:
    """An id that the one-byte form does not have, or that only the peer may send, is not accepted."""
    offer, answer = answered(CHROME.replace(f"a=extmap:4 {MID_URI}", f"a=extmap:{number} {MID_URI}"))
    assert sound_of(offer).extensions == {AUDIO_LEVEL_URI: 1}
    assert MID_URI not in str(answer)


def test_a_name_too_long_for_an_extension() -> None:
    """A section of more than 16 characters is accepted, but not named in each packet."""
    offer, _ = answered(CHROME.replace("a=mid:0", f"a=mid:{'x' * 17}").replace("BUNDLE 0", f"BUNDLE {'x' * 17}"))
    assert sound_of(offer).extensions == {AUDIO_LEVEL_URI: 1}


@pytest.mark.parametrize("line", ["a=rtcp-fb:111 nack", "a=rtcp-fb:* nack"])
def test_asking_again_is_agreed_on(line: str) -> None:
    """A peer that would ask for lost packets is told that it may; one that would not is not."""
    offer, answer = answered(CHROME.replace("a=rtcp-fb:111 transport-cc", line))
    assert sound_of(offer).asks_again
    assert "a=rtcp-fb:111 nack\r\n" in write_answer(offer, OURS)
    assert not sound_of(parse_offer(CHROME.encode())).asks_again
    assert "rtcp-fb" not in str(answered(CHROME)[1])
    assert answer.media[0].rtp.codecs[0].rtcpFeedback


@pytest.mark.parametrize(
    ("change", "red", "formats"),
    [
        pytest.param(lambda text: text, 63, [111, 63], id="Opus first"),
        pytest.param(lambda text: text.replace(" 111 63 ", " 63 111 "), 63, [63, 111], id="redundancy first"),
        pytest.param(lambda text: without(text, "a=fmtp:63"), None, [111], id="of nobody knows what"),
        pytest.param(lambda text: text.replace("a=fmtp:63 111/111", "a=fmtp:63 9/9"), None, [111], id="of G.722"),
        pytest.param(lambda text: text.replace("red/48000/2", "red/8000"), None, [111], id="of another rate"),
        pytest.param(lambda text: text.replace(" 111 63 ", " 111 "), None, [111], id="not in the m= line"),
    ],
)
def test_redundancy_is_accepted(change: Callable[[str], str], red: int | None, formats: list[int]) -> None:
    """Opus with redundancy is accepted in the place that the offer gives it, other redundancy is not."""
    offer, answer = answered(change(CHROME))
    assert sound_of(offer).red == red
    assert answer.media[0].fmt == formats


@pytest.mark.parametrize(
    ("fmtp", "uses_dtx", "bitrate"),
    [
        ("useinbandfec=1", None, None),
        ("usedtx=1; maxaveragebitrate=20000", "1", 20_000),
        ("maxaveragebitrate=lots", None, None),
    ],
)
def test_what_the_peer_would_like_of_our_opus(fmtp: str, uses_dtx: str | None, bitrate: int | None) -> None:
    """DTX and the highest bitrate are read where the offer names them."""
    sound = sound_of(parse_offer(CHROME.replace("minptime=10;useinbandfec=1", fmtp).encode()))
    assert (sound.opus_parameters.get("usedtx"), sound.max_bitrate) == (uses_dtx, bitrate)


async def test_aiortc_is_answered() -> None:
    """An offer that aiortc makes is accepted, and aiortc accepts the answer."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        pc.createDataChannel("oai-events")
        pc.addTransceiver("audio")
        offer, answer = answered((await pc.createOffer()).sdp)
        assert offer.audio is not None
        assert offer.application is not None
        assert [is_accepted(media) for media in answer.media] == [True, True]
    finally:
        await pc.close()


@pytest.mark.parametrize(
    "candidate",
    [
        "a=candidate:1 1 udp 2113937151 5b1f3f54-9a9c-4c4c-8a2e-2b1d0a2f3c11.local 54321 typ host",
        "a=candidate:2 1 udp 2113939711 2001:db8::5 54322 typ host generation 0 ufrag 4ZcD network-cost 999",
        "a=candidate:3 1 tcp 1518280447 192.0.2.3 9 typ host tcptype active",
        "a=candidate:nonsense",
    ],
)
def test_candidates_do_not_matter(candidate: str) -> None:
    """An offer with candidates of any kind is answered as one without: the peer is found by its checks."""
    with_candidates = CHROME.replace("a=rtcp-mux", f"{candidate}\r\na=end-of-candidates\r\na=rtcp-mux")
    assert write_answer(parse_offer(with_candidates.encode()), OURS) == write_answer(parse_offer(CHROME.encode()), OURS)


@pytest.mark.parametrize(
    ("direction", "answer", "sends", "receives"),
    [("sendrecv", "sendrecv", True, True), ("recvonly", "sendonly", False, True),
     ("sendonly", "recvonly", True, False), ("inactive", "inactive", False, False)],
)  # fmt: skip
def test_directions_are_mirrored(direction: str, answer: str, sends: bool, receives: bool) -> None:
    """What the peer only sends we only receive, and the other way round; a track is announced if we send."""
    offer, description = answered(CHROME.replace("a=sendrecv", f"a={direction}"))
    assert (offer.sends_audio, offer.receives_audio) == (sends, receives)
    audio = description.media[0]
    assert audio.direction == answer
    assert bool(audio.ssrc) is receives


@pytest.mark.parametrize("msid", ["a=msid:-\r\n", "a=msid:- track\r\n", ""])
def test_a_track_needs_no_stream(msid: str) -> None:
    """Audio whose ``a=msid`` is ``-``, or absent, is accepted like any other."""
    audio = without(AUDIO, "a=msid", "a=ssrc") + msid
    assert is_accepted(answered(SESSION + audio + APPLICATION)[1].media[0])


def test_without_a_bundle_there_is_no_bundle_in_the_answer() -> None:
    """An answer groups nothing that the offer did not group (RFC 8843 section 7.3)."""
    _, answer = answered(SESSION.replace("a=group:BUNDLE 0 1\r\n", "") + AUDIO)
    assert answer.group == []


def test_only_one_transport_without_a_bundle() -> None:
    """Sections that the offer did not bundle cannot share our one transport: the first is taken, the other rejected."""
    session = SESSION.replace("a=group:BUNDLE 0 1\r\n", "")
    own = APPLICATION.replace("4ZcD", "5AdE")
    assert [is_accepted(media) for media in answered(session + AUDIO + own)[1].media] == [True, False]


def test_the_bundle_of_the_answer_is_a_part_of_the_offers() -> None:
    """A section that the offer left out of its bundle is not in the answer's."""
    session = SESSION.replace("BUNDLE 0 1", "BUNDLE 0")
    _, answer = answered(session + AUDIO + APPLICATION)
    assert [group.items for group in answer.group] == [["0"]]


@pytest.mark.parametrize("section", [AUDIO, APPLICATION])
def test_one_section_is_enough(section: str) -> None:
    """Sound without events is a call, and so are events without sound."""
    mid = "0" if section is AUDIO else "1"
    offer, answer = answered(SESSION.replace("BUNDLE 0 1", f"BUNDLE {mid}") + section)
    assert [is_accepted(media) for media in answer.media] == [True]
    assert (offer.audio is None) is (section is APPLICATION)
    assert [group.items for group in answer.group] == [[mid]]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.rstrip(),
        lambda text: text.replace("opus/48000/2", "OPUS/48000/2"),
        lambda text: text.replace("fingerprint:sha-256", "fingerprint:SHA-256"),
        lambda text: text.replace("75:74:5A", "75:74:5a"),
        lambda text: text.replace("a=setup:actpass", "a=setup:active"),
        lambda text: text.replace("m=audio 9", "m=audio 54321"),
        lambda text: text.replace("a=mid:0", "a=mid:audio").replace("BUNDLE 0", "BUNDLE audio"),
    ],
)
def test_harmless_differences(change: Callable[[str], str]) -> None:
    """Line ends, case and the like make no difference to what is accepted."""
    assert all(map(is_accepted, answered(change(CHROME))[1].media))


def test_old_data_channels_have_small_messages() -> None:
    """Where the offer gives no limit, messages end at 64 KiB (RFC 8841 section 6.1)."""
    offer = parse_offer(without(CHROME, "a=max-message-size").encode())
    assert offer.max_message_bytes == 65_536


# Offers that are refused


@pytest.mark.parametrize(
    ("offer", "param"),
    [
        pytest.param(CHROME.replace("opus/48000/2", "speex/8000"), "rtpmap", id="no Opus"),
        pytest.param(CHROME.replace("a=rtpmap:111", "a=rtpmap:200"), "rtpmap", id="Opus not in the m= line"),
        pytest.param(without(CHROME, "a=fingerprint"), "fingerprint", id="no fingerprint"),
        pytest.param(CHROME.replace("sha-256", "sha-1"), "fingerprint", id="SHA-1"),
        pytest.param(CHROME.replace("75:74:", "75:"), "fingerprint", id="short fingerprint"),
        pytest.param(CHROME.replace("75:74:", "ZZ:74:"), "fingerprint", id="fingerprint not hexadecimal"),
        pytest.param(without(CHROME, "a=ice-ufrag"), "ice-ufrag", id="no ufrag"),
        pytest.param(CHROME.replace("ice-ufrag:4ZcD", "ice-ufrag:4Z"), "ice-ufrag", id="short ufrag"),
        pytest.param(CHROME.replace("ice-ufrag:4ZcD", "ice-ufrag:4Z D€"), "ice-ufrag", id="odd ufrag"),
        pytest.param(without(CHROME, "a=ice-pwd"), "ice-pwd", id="no pwd"),
        pytest.param(CHROME.replace("max-message-size:262144", "max-message-size:big"), "max-message-size", id="size"),
        pytest.param(CHROME.replace("max-message-size:262144", "max-message-size:-1"), "max-message-size", id="size<0"),
        pytest.param(CHROME.replace("sctp-port:5000", "sctp-port:x"), "sctp-port", id="SCTP port"),
        pytest.param(CHROME.replace("sctp-port:5000", "sctp-port:65536"), "sctp-port", id="SCTP port too high"),
        pytest.param(CHROME.replace("sctp-port:5000", "sctp-port:0"), "sctp-port", id="SCTP port 0"),
        pytest.param(SESSION, "m", id="no media"),
        pytest.param(SESSION + VIDEO, "m", id="video only"),
        pytest.param(CHROME.replace("m=audio 9", "m=audio 0").replace("m=application 9", "m=application 0"), "m",
                     id="all rejected"),
        pytest.param(SESSION + "m=audio\r\n", "m", id="half a media line"),
        pytest.param(SESSION + AUDIO * 17, "m", id="17 sections"),
        pytest.param(CHROME + "a=x\r\n" * 1100, "a", id="attributes without end"),
        pytest.param(SESSION + (AUDIO + "a=x\r\n" * 900) * 6, "sdp", id="lines without end"),
        pytest.param(SESSION + f"m=audio 9 UDP/TLS/RTP/SAVPF{' 111' * 129}\r\n", "m", id="formats without end"),
        *(
            pytest.param(CHROME + VIDEO.replace(" 96 97", f" 96 {wrong}"), "m", id=f"payload type {wrong}")
            for wrong in ("_9", "128", "72", "-1", "1111111111")
        ),
        pytest.param(CHROME.replace("a=mid:0", "a=mid:0 1"), "mid", id="odd mid"),
        pytest.param(CHROME.replace("a=mid:1", "a=mid:0"), "mid", id="sound and events of one mid"),
        pytest.param(CHROME + VIDEO.replace("a=mid:2", "a=mid:1"), "mid", id="unused section of a used mid"),
        pytest.param(CHROME + VIDEO.replace("a=mid:2", "a=mid:1").replace("m=video 9", "m=video 0"), "mid",
                     id="rejected section of a used mid"),
        pytest.param(CHROME + "a=x\r\n" * (MAX_SDP_BYTES // 4), "sdp", id="too large"),
        pytest.param("", "sdp", id="empty"),
        pytest.param("{}", "sdp", id="JSON"),
        pytest.param("hello\r\nworld\r\n", "sdp", id="not SDP"),
        pytest.param("v=1\r\n" + CHROME[5:], "sdp", id="version 1"),
    ],
)  # fmt: skip
def test_a_bad_offer_is_told_what_is_bad(offer: str, param: str) -> None:
    """Whatever keeps a call from being made is named in ``param``, and said in words."""
    with pytest.raises(BadOffer) as caught:
        parse_offer(offer.encode())
    assert caught.value.param == param
    assert caught.value.http_status == 400
    assert len(caught.value.message) > 10


@pytest.mark.parametrize("body", [b"\0", b"\xff\xfe\xfd" * 100, bytes(range(256)), CHROME.encode("utf-16")])
def test_bytes_that_are_no_text(body: bytes) -> None:
    """Binary is no SDP."""
    with pytest.raises(BadOffer) as caught:
        parse_offer(body)
    assert caught.value.param == "sdp"


def test_no_candidate_is_named_by_an_error() -> None:
    """What a stranger wrote is quoted in part only, however long."""
    with pytest.raises(BadOffer) as caught:
        parse_offer(f"{SESSION}m=audio {'x' * 10_000}\r\n".encode())
    assert len(caught.value.message) < 200


# Any bytes at all


def answer_or_refuse(body: bytes) -> None:
    try:
        offer = parse_offer(body)
    except BadOffer as error:
        refused = error
    else:
        SessionDescription.parse(write_answer(offer, OURS))
        return
    assert refused.message
    assert refused.param


@given(st.sampled_from(sorted(OFFERS)), st.randoms(use_true_random=False), st.integers(1, 8))
def test_mutated_offers(name: str, chance: random.Random, changes: int) -> None:
    """Offers with lines dropped, swapped, doubled or with noise in them are answered readably, or refused by name."""
    lines = OFFERS[name].encode().splitlines(keepends=True)
    for _ in range(changes):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                lines[at] = b""
            case 1:
                lines[at], lines[other] = lines[other], lines[at]
            case 2:
                lines[at] = lines[at] + lines[at]
            case 3:
                position = chance.randrange(len(lines[at]) + 1)
                noise = bytes([chance.choice([*range(256), *b" :/=09\r\n"])])
                lines[at] = lines[at][:position] + noise + lines[at][position + chance.randrange(2) :]
            case 4:
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)] + lines[other]
    answer_or_refuse(b"".join(lines))


@given(st.binary(max_size=300))
def test_noise(tail: bytes) -> None:
    """Any bytes behind the first line are answered or refused."""
    answer_or_refuse(b"v=0\r\n" + tail)


@given(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(["m=audio ", "m=", "a=rtpmap:", "a=mid:", "a=fingerprint:", "a=sctp-port:", "a=max-message-size:",
                     "a=setup:", "a=ice-ufrag:", "a=group:"]),
)  # fmt: skip
def test_any_value(value: str, line: str) -> None:
    """No value of a line that matters makes anything but an answer or a refusal."""
    answer_or_refuse((CHROME + line + value + "\r\n").encode())
    answer_or_refuse(CHROME.replace("a=rtcp-mux", f"{line}{value}\r\na=rtcp-mux").encode())
