"""Targets: what comes over HTTP, and what carriers say."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import get_args

from bridge.api.body import _boundary, _Form
from bridge.errors import BadOffer, BadRequest
from bridge.telephony.asterisk.dialect import Asterisk
from bridge.telephony.audiosocket.dialect import AudioSocket, Splitter, frame
from bridge.telephony.dialect import CarrierDialect, CarrierEvent
from bridge.telephony.genesys.dialect import Genesys
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.telnyx.dialect import TELNYX_DIALECT
from bridge.telephony.twilio.dialect import TWILIO_DIALECT
from bridge.webrtc.fragment import parse_fragment
from bridge.webrtc.sdp import AnswerParameters, Fingerprint, parse_offer, parse_remote, write_answer
from tests.fuzz.oracle import Target, lines_changed, values_changed
from tests.telephony.test_garbage import _SAMPLES

__all__ = ["TARGETS"]

_OFFERS = Path(__file__).parents[1] / "webrtc/offers"
_ANSWER = AnswerParameters("ufrag", "p" * 24, Fingerprint("sha-256", ":".join(["AB"] * 32)), ("192.0.2.1",), 4000, 7)


# SDP


def _sdp_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_OFFERS.glob("*.sdp"))]


def _sdp(data: bytes) -> None:
    """An offer that is taken has an answer, which can be read; as a remote answer it is read or refused."""
    with suppress(BadOffer):
        parse_remote(data)
    try:
        offer = parse_offer(data)
    except BadOffer:
        return
    assert offer.ice_ufrag
    assert isinstance(offer.candidates, list)
    answer = write_answer(offer, _ANSWER)
    assert answer.count("\r\nm=") == len(offer.media)
    assert len(answer) < 20_000 + 4 * len(data)
    assert parse_remote(answer.encode()).ice_ufrag == _ANSWER.ice_ufrag


# SDP fragments


def _fragment_seeds() -> list[bytes]:
    head = b"a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    pair = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
    host = b"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n"
    relay = b"a=candidate:2 1 tcp 5 2001:db8::1 9 typ relay raddr 192.0.2.1 rport 9 tcptype active\r\n"
    return [head + pair + host + relay + b"a=end-of-candidates\r\n", pair + head, host * 3]


def _fragment(data: bytes) -> None:
    """It is read or refused; what is read has whole credentials, and no more candidates than lines."""
    with suppress(BadRequest):
        fragment = parse_fragment(data)
        assert all(ufrag and pwd for ufrag, pwd in fragment.credentials)
        assert len(fragment.candidates) <= data.count(b"\n") + 1


# Forms


def _form_seeds() -> list[bytes]:
    """The Content-Type in the first line, the body behind it."""
    offer = _sdp_seeds()[0][:300]
    parts = (
        b'--limit\r\nContent-Disposition: form-data; name="sdp"; filename="offer"\r\nContent-Type: application/sdp\r\n'
        b"\r\n" + offer + b'\r\n--limit\r\nContent-Disposition: form-data; name="session"\r\n\r\n{"type": "realtime"}'
        b"\r\n--limit--\r\n"
    )
    return [
        b"multipart/form-data; boundary=limit\n" + parts,
        b'multipart/form-data; charset=utf-8; boundary="limit"\npreamble\r\n' + parts + b"epilogue",
        b"multipart/form-data; boundary*=utf-8''limit; boundary*0=lim; boundary*1=it\n" + parts,
    ]


def _form(data: bytes) -> None:
    kind, _, body = data.partition(b"\n")
    with suppress(BadRequest):
        form = _Form(_boundary(kind.decode("latin-1")))
        for at in range(0, len(body), 16 * 1024):
            form.write(body[at : at + 16 * 1024])
        parts = form.finish()
        assert sum(map(len, parts.values())) <= len(body)


# Carriers


def _carrier_seeds() -> list[bytes]:
    lines = [json.dumps(sample).encode() for sample in _SAMPLES]
    return [*lines, b"\n".join(lines[:7]), b"\n".join(lines[7:])]


def _asterisk_seeds() -> list[bytes]:
    words = [
        b"MEDIA_START connection_id:1 channel:PJSIP/x channel_id:1.2 format:ulaw optimal_frame_size:160 ptime:20",
        b"DTMF_END digit:5 duration_ms:100",
        b"MEDIA_MARK_PROCESSED correlation_id:b1",
        b"MEDIA_XOFF",
        b"MEDIA_XON",
        b"STATUS queue_length:10 xon_level:1 xoff_level:9 queue_full:false bulk_media:false media_paused:false",
        b"QUEUE_DRAINED",
        b"\xff" * 160,
    ]
    return [*_carrier_seeds(), *words, b"\n".join(words)]


def _converse(new: Callable[[], CarrierDialect], data: bytes) -> None:
    """Messages, one a line, as text if they are text; then everything that we may say."""
    dialect = new()
    codes = ["unsupported_format"]
    for line in data.split(b"\n")[:12]:
        message: str | bytes = line
        with suppress(UnicodeDecodeError):
            message = line.decode()
        try:
            events = dialect.decode_message(message)
            assert all(isinstance(event, get_args(CarrierEvent)) for event in events)
            if isinstance(message, str):
                events = dialect.decode_message(line)
                assert all(isinstance(event, get_args(CarrierEvent)) for event in events)
        except BadRequest as refusal:
            codes = [refusal.code]
            break
    assert codes == ["unsupported_format"]
    said = [dialect.encode_sound(b"ab"), *dialect.encode_mark("b1"), *dialect.encode_clear(), *dialect.encode_hang_up()]
    assert all(isinstance(message, str | bytes) for message in said)


def _twilio(data: bytes) -> None:
    _converse(partial(JsonDialect, TWILIO_DIALECT), data)


def _telnyx(data: bytes) -> None:
    _converse(partial(JsonDialect, TELNYX_DIALECT), data)


def _asterisk(data: bytes) -> None:
    _converse(Asterisk, data)


def _genesys(data: bytes) -> None:
    _converse(Genesys, data)


def _audiosocket_seeds() -> list[bytes]:
    identity = frame(1, bytes(16))
    return [identity + frame(0x10, bytes(320)) + frame(3, b"5") + frame(0), identity + frame(0x12, bytes(640)),
            identity + frame(0xFF, b"\1")]  # fmt: skip


def _audiosocket(data: bytes) -> None:
    """However the stream is cut, it holds the same frames."""
    dialect, splitter = AudioSocket(), Splitter()
    size = 1 + len(data) % 7
    frames = [one for at in range(0, len(data), size) for one in splitter.push(data[at : at + size])]
    assert frames == Splitter().push(data)
    for one in frames:
        assert all(isinstance(event, get_args(CarrierEvent)) for event in dialect.decode_message(one))


TARGETS = {
    "sdp": Target(_sdp, _sdp_seeds, lines_changed(_sdp_seeds()), everyday_runs=4_000),
    "fragment": Target(_fragment, _fragment_seeds, lines_changed(_fragment_seeds()), everyday_runs=4_000),
    "form": Target(_form, _form_seeds, lines_changed(_form_seeds()), everyday_runs=12_000),
    "twilio": Target(_twilio, _carrier_seeds, values_changed(_carrier_seeds()), everyday_runs=15_000),
    "telnyx": Target(_telnyx, _carrier_seeds, values_changed(_carrier_seeds()), everyday_runs=15_000),
    "asterisk": Target(_asterisk, _asterisk_seeds, values_changed(_carrier_seeds()), everyday_runs=15_000),
    "genesys": Target(_genesys, _carrier_seeds, values_changed(_carrier_seeds()), everyday_runs=15_000),
    "audiosocket": Target(_audiosocket, _audiosocket_seeds, everyday_runs=5_000),
}
