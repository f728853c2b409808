"""SDP fragments: read within bounds, and written so that they can be read."""

import time

import pytest

from bridge.errors import BadRequest
from bridge.webrtc.fragment import MAX_FRAGMENT_BYTES, parse_fragment, write_fragment
from bridge.webrtc.sdp import AnswerParameters, Fingerprint, parse_offer
from tests.machine import scaled
from tests.webrtc.test_sdp import OFFERS

_CREDENTIALS = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
_RFC = (
    "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    + _CREDENTIALS
    + "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n"
    "a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw\r\n"
    "a=end-of-candidates\r\n"
)
_CANDIDATE = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host"
_PAIR = ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")


def test_the_example_of_the_rfc() -> None:
    """Credentials, candidates and their end, as RFC 9725 shows them."""
    fragment = parse_fragment(_RFC.encode())
    assert fragment.credentials == (_PAIR,)
    assert len(fragment.candidates) == 2
    assert fragment.is_end


@pytest.mark.parametrize(
    ("text", "credentials", "candidates"),
    [
        ("", (), 0),
        ("a=end-of-candidates\n", (), 0),
        (_CREDENTIALS + "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0", (_PAIR,), 0),
        (f"m=audio 9 X 1\n{_CREDENTIALS}m=audio 9 X 1\n{_CREDENTIALS}", (_PAIR,), 0),
        ("m=a\na=ice-ufrag:aaaa\na=ice-pwd:bbbb\nm=b\na=ice-ufrag:cccc\na=ice-pwd:dddd",
         (("aaaa", "bbbb"), ("cccc", "dddd")), 0),
        (_CANDIDATE, (), 1),
        (_CANDIDATE.replace("udp", "UDP"), (), 1),
        (_CANDIDATE.replace("udp", "sctp"), (), 0),
        (_CANDIDATE.replace("192.0.2.1", "6b5a3c.local"), (), 1),
        (_CANDIDATE.replace("192.0.2.1", "2001:db8::1") + " ", (), 1),
        ("a=candidate:\na=ice-options:trickle\nc=IN IP4 0.0.0.0", (), 0),
    ],
)  # fmt: skip
def test_what_is_taken(text: str, credentials: object, candidates: int) -> None:
    """Credentials in front or in sections, once; candidates of a transport that is not known here are left out."""
    fragment = parse_fragment(text.encode())
    assert (fragment.credentials, len(fragment.candidates)) == (credentials, candidates)


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("v 0", "body"),
        ("\x00", "body"),
        ("a=ice-ufrag:EsAw", "ice-ufrag"),
        ("a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "ice-pwd"),
        ("a=ice-ufrag:no\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "ice-ufrag"),
        ("a=candidate:1", "candidate"),
        (_CANDIDATE.replace(" typ", " type"), "candidate"),
        (_CANDIDATE.replace("1 typ", "65536 typ"), "candidate"),
        (_CANDIDATE.replace("1 typ", "١ typ"), "candidate"),
        (_CANDIDATE + " x" * 64, "candidate"),
        ("m=x\n" * 17, "m"),
        ("a=x\n" * 512, "body"),
        ("a=" + "x" * MAX_FRAGMENT_BYTES, "body"),
    ],
)
def test_what_is_refused(text: str, param: str) -> None:
    """What is no fragment is refused, and the line that is wrong named."""
    with pytest.raises(BadRequest) as caught:
        parse_fragment(text.encode())
    assert (caught.value.code, caught.value.param) == ("invalid_fragment", param)


def test_no_text() -> None:
    """Bytes that are no UTF-8 are refused."""
    with pytest.raises(BadRequest):
        parse_fragment(b"\xff\xfe")


@pytest.mark.parametrize("line", [_CANDIDATE + " a b" * 20, "a=ice-ufrag:" + "x" * 256, "m=" + " 1" * 500, "\r" * 60])
def test_its_time_is_bounded(line: str) -> None:
    """The longest fragment of the worst lines takes no longer than a moment."""
    body = (line + "\n").encode()
    body *= MAX_FRAGMENT_BYTES // len(body)
    began = time.process_time()
    try:
        parse_fragment(body)
    except BadRequest:
        pass
    assert time.process_time() - began < scaled(0.1)


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_what_is_written_can_be_read(name: str) -> None:
    """The answer to a restart of each known client has our credentials and candidates, and their end."""
    offer = parse_offer(OFFERS[name].encode())
    ours = AnswerParameters(
        "ours", "p" * 22, Fingerprint("sha-256", "AB"), ("192.0.2.1", "::1"), 4000, 7, tcp_ports=(5,)
    )
    text = write_fragment(offer, ours)
    assert text.startswith("a=ice-lite\r\n")
    fragment = parse_fragment(text.encode())
    assert fragment.credentials == (("ours", "p" * 22),)
    assert len(fragment.candidates) == 4
    assert fragment.is_end
