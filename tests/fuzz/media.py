"""Targets: what comes over UDP, and over a WebSocket in binary messages."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, cast

from aioice import stun

from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.red import parse_red
from bridge.media.reports import Reports
from bridge.media.rtcp import ReportBlock, SenderInfo, write_report
from bridge.webrtc.ice import Credentials
from bridge.webrtc.mux import Mux
from bridge.wire.binary import pack_sound, unpack_sound
from tests.fakes import RtpSender
from tests.fuzz.oracle import Target

__all__ = ["TARGETS"]

_HZ = 24_000
_OPUS, _RED = 111, 63
_OUR_SSRC, _THEIR_SSRC = 0xB41D6E, 0x5EED
_OURS = Credentials("abcdefgh", "p" * 32, "remote12", "q" * 32)
_PEER, _STRANGER = ("192.0.2.1", 5000), ("192.0.2.2", 6000)
_MOST_AT_ONCE_MS = 5000  # of sound, besides the silence of the time that passes: a few packets


# RTP, with RED


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Packets, each with a byte before it that says how many times 10 ms have passed, and two with its length."""
    at = 0
    for _ in range(24):
        if at + 3 > len(data):
            return
        size = int.from_bytes(data[at + 1 : at + 3], "big") % 1500
        yield data[at], data[at + 3 : at + 3 + size]
        at += 3 + size


def _joined(packets: list[bytes], gap: int = 2) -> bytes:
    return b"".join(bytes([gap]) + len(packet).to_bytes(2, "big") + packet for packet in packets)


@cache
def _payloads() -> list[bytes]:
    encoder = new_encoder(_HZ)
    tone = b"".join(struct.pack("<h", 9000 * (number // 30 % 2)) for number in range(480))
    return [encoder.encode(tone) for _ in range(8)]


def _red(own: bytes, old: bytes) -> bytes:
    word = 0x80 << 24 | _OPUS << 24 | 960 << 10 | len(old)
    return word.to_bytes(4, "big") + bytes([_OPUS]) + old + own


def _rtp_seeds() -> list[bytes]:
    plain, redundant = RtpSender(), RtpSender(payload_type=_RED)
    payloads = _payloads()
    packets = [plain.send(payload) for payload in payloads]
    doubled = [redundant.send(_red(*pair)) for pair in zip(payloads[1:], payloads, strict=False)]
    return [_joined(packets), _joined(doubled), _joined([*packets[:2], *packets[5:3:-1]]), _joined(packets[:1], 255)]


def _rtp(data: bytes) -> None:
    inbound = InboundAudio(new_decoder(_HZ), payload_type=_OPUS, rate_hz=_HZ)
    inbound.red_payload_type = _RED
    now, size = 1000.0, 0
    for gap, packet in _pieces(data):
        now += gap / 100
        size += len(inbound.receive_rtp(packet, now)) + len(inbound.poll(now))
    size += len(inbound.poll(now + 1))
    assert size % 2 == 0
    assert size / 2 / _HZ * 1000 <= 1000 * (now + 1 - 1000.0) + _MOST_AT_ONCE_MS, size


def _red_alone(data: bytes) -> None:
    parsed = parse_red(data, 0, len(data), payload_type=_OPUS)
    if parsed is not None:
        at, blocks = parsed
        assert 0 < at <= len(data)
        assert sum(len(block) for _, block in blocks) < len(data)


def _red_seeds() -> list[bytes]:
    payloads = _payloads()
    return [_red(payloads[1], payloads[0]), bytes([_OPUS]) + payloads[0], _red(b"", b"")]


# RTCP


@cache
def _media() -> tuple[InboundAudio, OutboundAudio]:
    inbound = InboundAudio(new_decoder(_HZ), payload_type=_OPUS, rate_hz=_HZ)
    inbound.receive_rtp(RtpSender(ssrc=_THEIR_SSRC).send(_payloads()[0]), 1000.0)
    outbound = OutboundAudio(
        new_encoder(_HZ), rate_hz=_HZ, payload_type=_OPUS, ssrc=_OUR_SSRC, sequence=1, rtp_timestamp=1, limit_s=1
    )
    return inbound, outbound


def _rtcp(data: bytes) -> None:
    inbound, outbound = _media()
    reports = Reports(inbound, outbound, cname="bridge", spread=lambda least, most: least)
    missing = reports.receive_rtcp(data, 1001.0)
    assert len(missing) <= 500
    assert all(0 <= sequence <= 0xFFFF for sequence in missing)
    reports.due(1010.0)
    assert reports.leave(1011.0)


def _rtcp_seeds() -> list[bytes]:
    block = ReportBlock(_OUR_SSRC, 10, 5, 100, 30, 1, 1)
    sender = SenderInfo(3_000_000_000 << 32, 960, 10, 1000)
    nack = struct.pack(">BBHLLHH", 0x81, 205, 3, _THEIR_SSRC, _OUR_SSRC, 100, 0xFFFF)
    return [
        write_report(_THEIR_SSRC, "them", sender=None, block=block),
        write_report(_THEIR_SSRC, "them", sender=sender, block=block),
        write_report(_THEIR_SSRC, "them", sender=None, block=block) + nack,
    ]


# STUN


class _Socket:
    """Where answers go."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def sendto(self, datagram: bytes, address: Any) -> None:
        self.sent.append((datagram, address))

    def is_closing(self) -> bool:
        return False


def _stun(data: bytes) -> None:
    """The first byte says who sends; the peer's own checks have their integrity mended, so that more of them count."""
    sender, datagram = (_PEER if data[:1] < b"\x80" else _STRANGER), data[1:]
    if data[:1] and data[0] & 1:
        datagram = _mended(datagram)
    socket, now = _Socket(), 1000.0
    mux = Mux(lambda: now)
    mux.connection_made(cast(Any, socket))
    agent = mux.new_agent()
    mux.forget_ufrag(agent.ufrag)
    agent.credentials = _OURS
    mux.know(agent, _OURS.ufrag)
    mux.datagram_received(datagram, sender)
    assert len(socket.sent) <= 1
    assert all(address == sender for _, address in socket.sent)
    if socket.sent:
        assert stun.parse_message(socket.sent[0][0]).check_message_integrity(_OURS.pwd.encode())
    agent.keep_consent(now + 60)
    now += 61
    mux.datagram_received(datagram, _STRANGER)
    agent.close()
    assert not mux.by_address
    assert not mux.agents


def _mended(datagram: bytes) -> bytes:
    """With the integrity that its reader will compute."""
    with suppress(ValueError, struct.error, IndexError):
        message = stun.parse_message(datagram)
        for name in ("MESSAGE-INTEGRITY", "FINGERPRINT"):
            message.attributes.pop(name, None)
        with suppress(Exception):  # attributes that aioice reads and cannot write
            message.add_message_integrity(_OURS.pwd.encode())
            message.add_fingerprint()
            return bytes(message)
    return datagram


def _stun_seeds() -> list[bytes]:
    seeds = []
    for attributes in (
        {"PRIORITY": 1, "ICE-CONTROLLING": 1, "USE-CANDIDATE": None},
        {"PRIORITY": 1, "ICE-CONTROLLED": 1},
        {"PRIORITY": 1, "SOFTWARE": "x", "XOR-MAPPED-ADDRESS": ("192.0.2.9", 9)},
    ):
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, b"0" * 12)
        message.attributes["USERNAME"] = f"{_OURS.ufrag}:{_OURS.remote_ufrag}"
        message.attributes.update(attributes)
        message.add_message_integrity(_OURS.pwd.encode())
        message.add_fingerprint()
        seeds.append(bytes(message))
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, _OURS.ufrag.encode() + b"0000")
    answer.attributes["XOR-MAPPED-ADDRESS"] = ("2001:db8::1", 9)
    error = stun.Message(stun.Method.BINDING, stun.Class.ERROR, b"1" * 12)
    error.attributes["ERROR-CODE"] = (487, "Role Conflict")
    seeds += [bytes(answer), bytes(error)]
    return [bytes([first]) + seed for seed in seeds for first in (0, 1, 0x81)]


# Binary messages


def _binary(data: bytes) -> None:
    with suppress(ValueError):
        message = unpack_sound(data)
        assert pack_sound(*message) == data


def _binary_seeds() -> list[bytes]:
    heads = [(1, 0, 0, 24, 7, 960), (1, 1, 0, 44, 7, 1), (1, 0, 1, 8, 0, 0), (1, 1, 3, 48, 1, 2), (1, 0, 4, 44, 1, 1)]
    return [struct.pack("!BBBBIQ", *head) + bytes(20) for head in heads]


TARGETS = {
    "rtp": Target(_rtp, _rtp_seeds, everyday_runs=8_000),
    "red": Target(_red_alone, _red_seeds, everyday_runs=60_000),
    "rtcp": Target(_rtcp, _rtcp_seeds, everyday_runs=30_000),
    "stun": Target(_stun, _stun_seeds, everyday_runs=8_000),
    "binary": Target(_binary, _binary_seeds, everyday_runs=60_000),
}
