"""The messages that the carriers' references print, word for word: what each means, and that ours are the same."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from bridge.observe.webhook_request import signature
from bridge.telephony.acs.dialect import ACS_DIALECT, CALL_HEADER
from bridge.telephony.asterisk.dialect import Asterisk
from bridge.telephony.audiosocket.dialect import HANG_UP, IDENTITY, SOUND, AudioSocket, Splitter, frame
from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT
from bridge.telephony.dialect import CallStarted, CarrierDialect, CarrierFault, CarrierReply, Dtmf, Ended, MarkPlayed
from bridge.telephony.elks.dialect import ELKS_DIALECT
from bridge.telephony.exotel.dialect import EXOTEL_DIALECT
from bridge.telephony.genesys.dialect import Genesys
from bridge.telephony.genesys.sign_in import base_of
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.plivo.dialect import PLIVO_DIALECT
from bridge.telephony.telnyx.dialect import TELNYX_DIALECT
from bridge.telephony.twilio.dialect import TWILIO_DIALECT
from bridge.telephony.vonage.dialect import VONAGE_DIALECT
from bridge.wire.audio import G711_ULAW, pcm16_at

_MZ, _CA, _AC = "MZ11111111111111111111111111111111", "CA33333333333333333333333333333333", "AC" + "2" * 32
_TELNYX = "5a0c3a52-0c1d-4b0e-9c0d-3b3f8f6f1a10"
_PLIVO_CALL, _PLIVO = "c0ffee00-0000-4000-8000-000000000001", "c0ffee00-0000-4000-8000-000000000002"
_GENESYS = "0a0b0c0d-0000-4000-8000-0000000000aa"
_SILENT = b"\xff" * 160
_PAYLOAD = base64.b64encode(_SILENT).decode()

_IN: dict[str, tuple[Callable[[], CarrierDialect], list[tuple[str, list[Any]]]]] = {
    "twilio": (
        lambda: JsonDialect(TWILIO_DIALECT),
        [
            ('{"event":"connected","protocol":"Call","version":"1.0.0"}', []),
            (
                f'{{"event":"start","sequenceNumber":"1","streamSid":"{_MZ}","start":{{"streamSid":"{_MZ}",'
                f'"accountSid":"{_AC}","callSid":"{_CA}","tracks":["inbound"],"mediaFormat":{{"encoding":"audio/x-mulaw",'
                '"sampleRate":8000,"channels":1},"customParameters":{"token":"k7Qd","lang":"en"}}}',
                [CallStarted(_CA, G711_ULAW, {"lang": "en"}, "k7Qd", ids={"callSid": _CA, "streamSid": _MZ})],
            ),
            (
                f'{{"event":"media","sequenceNumber":"2","streamSid":"{_MZ}","media":{{"track":"inbound","chunk":"1",'
                f'"timestamp":"20","payload":"{_PAYLOAD}"}}}}',
                [_SILENT],
            ),
            (
                f'{{"event":"dtmf","sequenceNumber":"51","streamSid":"{_MZ}","dtmf":{{"track":"inbound_track",'
                '"digit":"5"}}',
                [Dtmf("5")],
            ),
            (
                f'{{"event":"mark","sequenceNumber":"88","streamSid":"{_MZ}","mark":{{"name":"r7-3"}}}}',
                [MarkPlayed("r7-3")],
            ),
            (
                f'{{"event":"stop","sequenceNumber":"412","streamSid":"{_MZ}","stop":{{"accountSid":"{_AC}",'
                f'"callSid":"{_CA}"}}}}',
                [Ended()],
            ),
        ],
    ),
    "telnyx": (
        lambda: JsonDialect(TELNYX_DIALECT),
        [
            ('{"event":"connected","version":"1.0.0"}', []),
            (
                f'{{"event":"start","sequence_number":"1","stream_id":"{_TELNYX}","start":{{"user_id":"u-1",'
                '"call_control_id":"v3:abc","call_session_id":"s-1","from":"+15550001111","to":"+15550002222","tags":[],'
                '"client_state":"eyJ0IjoxfQ==","media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}}}',
                [
                    CallStarted(
                        "v3:abc",
                        G711_ULAW,
                        {"from": "+15550001111", "to": "+15550002222"},
                        None,
                        G711_ULAW,
                        {"call_control_id": "v3:abc", "call_session_id": "s-1", "stream_id": _TELNYX},
                    )
                ],
            ),
            (
                f'{{"event":"media","sequence_number":"4","stream_id":"{_TELNYX}","media":{{"track":"inbound",'
                f'"chunk":"2","timestamp":"40","payload":"{_PAYLOAD}"}}}}',
                [_SILENT],
            ),
            (
                f'{{"event":"dtmf","sequence_number":"9","stream_id":"{_TELNYX}",'
                '"occurred_at":"2026-01-01T10:00:00.000001Z","dtmf":{"digit":"#"}}',
                [Dtmf("#")],
            ),
            (
                f'{{"event":"error","stream_id":"{_TELNYX}","payload":{{"code":100004,"title":"invalid_media",'
                '"detail":"payload not base64"}}',
                [CarrierFault("carrier_error", "100004 invalid_media")],
            ),
        ],
    ),
    "plivo": (
        lambda: JsonDialect(PLIVO_DIALECT),
        [
            (
                f'{{"event":"start","sequenceNumber":1,"start":{{"callId":"{_PLIVO_CALL}","streamId":"{_PLIVO}",'
                '"accountId":"MAXXXXXXXXXXXXXXXXXX","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw",'
                '"sampleRate":8000}},"extra_headers":"tok=abc"}',
                [CallStarted(_PLIVO_CALL, G711_ULAW, {"tok": "abc"}, ids={"callId": _PLIVO_CALL, "streamId": _PLIVO})],
            ),
            (
                f'{{"event":"media","sequenceNumber":2,"streamId":"{_PLIVO}","media":{{"track":"inbound",'
                f'"timestamp":"20","chunk":1,"payload":"{_PAYLOAD}"}},"extra_headers":"tok=abc"}}',
                [_SILENT],
            ),
            (f'{{"event":"playedStream","streamId":"{_PLIVO}","name":"greet"}}', [MarkPlayed("greet")]),
            (f'{{"event":"clearedAudio","streamId":"{_PLIVO}"}}', []),
        ],
    ),
    "vonage": (
        lambda: JsonDialect(VONAGE_DIALECT),
        [
            (
                '{"event":"websocket:connected","content-type":"audio/l16;rate=16000","uuid":"u-1","token":"k7Qd"}',
                [
                    CallStarted(
                        "u-1", pcm16_at(16_000), {"uuid": "u-1"}, "k7Qd", ids={"uuid": "u-1", "conversation_uuid": ""}
                    )
                ],
            ),
            ('{"event":"websocket:dtmf","digit":"5","duration":260}', [Dtmf("5")]),
            (
                '{"event":"websocket:notify","payload":{"reply_id":"r7"}}',
                [CarrierFault("malformed_message")],
            ),  # not ours
        ],
    ),
    "asterisk": (
        Asterisk,
        [
            (
                '{"event":"MEDIA_START","connection_id":"bridge1","channel":"WebSocket/bridge1/0x7f00",'
                '"channel_id":"pbx-1.42","format":"ulaw","optimal_frame_size":160,"ptime":20,'
                '"channel_variables":{"TENANT":"a"}}',
                [
                    CallStarted(
                        "pbx-1.42",
                        G711_ULAW,
                        {"TENANT": "a"},
                        ids={
                            "channel_id": "pbx-1.42",
                            "connection_id": "bridge1",
                            "channel": "WebSocket/bridge1/0x7f00",
                        },
                    )
                ],
            ),
            (
                '{"event":"MEDIA_MARK_PROCESSED","channel_id":"pbx-1.42","correlation_id":"r7-3"}',
                [MarkPlayed("r7-3")],
            ),
            ('{"event":"DTMF_END","channel_id":"pbx-1.42","digit":"5"}', [Dtmf("5")]),
        ],
    ),
    "acs": (
        lambda: JsonDialect(ACS_DIALECT, of_upgrade={CALL_HEADER: "c-1"}),
        [
            (
                '{"kind":"AudioMetadata","audioMetadata":{"subscriptionId":"s-1","encoding":"PCM","sampleRate":24000,'
                '"channels":1,"length":960}}',
                [
                    CallStarted(
                        "c-1",
                        pcm16_at(24_000),
                        ids={CALL_HEADER: "c-1", "x-ms-call-correlation-id": "", "subscriptionId": "s-1"},
                    )
                ],
            ),
            (
                '{"kind":"AudioData","audioData":{"timestamp":"2026-01-01T00:00:00.020Z",'
                '"participantRawID":"4:+15550001111","data":"6APoAw==","silent":false}}',
                [(1000).to_bytes(2, "little") * 2],
            ),
            ('{"kind":"DtmfData","dtmfData":{"data":"3"}}', [Dtmf("3")]),
        ],
    ),
}
"""By carrier: its dialect, and the messages that its reference prints, in their order, with what each means."""


@pytest.mark.parametrize("carrier", _IN)
def test_what_the_references_print_is_understood(carrier: str) -> None:
    """Each message, in the order of a call."""
    new_dialect, messages = _IN[carrier]
    dialect = new_dialect()
    for message, events in messages:
        assert dialect.decode_message(message) == events, message


def test_genesys_session() -> None:
    """``open`` is answered with the ``opened`` that the reference prints."""
    media = '[{"type":"audio","format":"PCMU","channels":["external"],"rate":8000}]'
    said = (
        f'{{"version":"2","type":"open","seq":1,"serverseq":0,"id":"{_GENESYS}","position":"PT0S",'
        '"parameters":{"organizationId":"11111111-0000-4000-8000-000000000001",'
        '"conversationId":"11111111-0000-4000-8000-000000000002","participant":'
        '{"id":"11111111-0000-4000-8000-000000000003","ani":"+15550001111","aniName":"","dnis":"+15550002222"},'
        f'"media":{media}}}}}'
    )
    started, reply = Genesys(_GENESYS, "11111111-0000-4000-8000-000000000001").decode_message(said)
    assert isinstance(started, CallStarted)
    assert (started.call, started.audio_format) == (_GENESYS, G711_ULAW)
    assert isinstance(reply, CarrierReply)
    assert json.loads(reply.messages[0]) == json.loads(
        f'{{"version":"2","type":"opened","seq":1,"clientseq":1,"id":"{_GENESYS}",'
        f'"parameters":{{"startPaused":false,"media":{media}}}}}'
    )


def _started(carrier: str, at: int) -> CarrierDialect:
    """The dialect of a call that has begun: behind so many of the messages above."""
    new_dialect, messages = _IN[carrier]
    dialect = new_dialect()
    for message, _ in messages[:at]:
        dialect.decode_message(message)
    return dialect


def test_ours_are_what_the_references_print() -> None:
    """Sound, marks, and what clears a buffer, by carrier, with exactly these fields."""
    twilio, telnyx, plivo = _started("twilio", 2), _started("telnyx", 2), _started("plivo", 1)
    vonage, asterisk, acs = _started("vonage", 1), _started("asterisk", 1), _started("acs", 1)
    pcm = b"\xe8\x03" * 2
    elks, bandwidth, exotel = JsonDialect(ELKS_DIALECT), JsonDialect(BANDWIDTH_DIALECT), JsonDialect(EXOTEL_DIALECT)
    elks.decode_message('{"t":"hello","callid":"c","from":"+1","to":"+2"}')
    exotel.decode_message(
        '{"event":"start","stream_sid":"s1","start":{"call_sid":"c1","media_format":{"encoding":"audio/x-raw",'
        '"sample_rate":"8000","bit_rate":"16"}}}'
    )
    bandwidth.decode_message('{"eventType":"start","metadata":{"callId":"c","streamId":"s","tracks":[]}}')
    for ours, printed in (
        (twilio.encode_sound(_SILENT), f'{{"event":"media","streamSid":"{_MZ}","media":{{"payload":"{_PAYLOAD}"}}}}'),
        (twilio.encode_mark("r7-3")[0], f'{{"event":"mark","streamSid":"{_MZ}","mark":{{"name":"r7-3"}}}}'),
        (twilio.encode_clear()[0], f'{{"event":"clear","streamSid":"{_MZ}"}}'),
        (telnyx.encode_sound(_SILENT), f'{{"event":"media","media":{{"payload":"{_PAYLOAD}"}}}}'),
        (telnyx.encode_mark("turn-4")[0], '{"event":"mark","mark":{"name":"turn-4"}}'),
        (telnyx.encode_clear()[0], '{"event":"clear"}'),
        (
            plivo.encode_sound(_SILENT),
            f'{{"event":"playAudio","media":{{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"{_PAYLOAD}"}}}}',
        ),
        (plivo.encode_mark("greet")[0], f'{{"event":"checkpoint","streamId":"{_PLIVO}","name":"greet"}}'),
        (plivo.encode_clear()[0], f'{{"event":"clearAudio","streamId":"{_PLIVO}"}}'),
        (plivo.encode_key("1")[0], '{"event":"sendDTMF","dtmf":"1"}'),
        (vonage.encode_mark("N")[0], '{"action":"notify","payload":{"name":"N"}}'),
        (vonage.encode_clear()[0], '{"action":"clear"}'),
        (asterisk.encode_mark("r7-3")[0], '{"command":"MARK_MEDIA","correlation_id":"r7-3"}'),
        (asterisk.encode_clear()[0], '{"command":"FLUSH_MEDIA"}'),
        (acs.encode_sound(pcm), '{"kind":"AudioData","audioData":{"data":"6APoAw=="},"stopAudio":null}'),
        (acs.encode_clear()[0], '{"kind":"StopAudio","audioData":null,"stopAudio":{}}'),
        (
            exotel.encode_sound(bytes(1600)),
            '{"event":"media","stream_sid":"s1","media":{"chunk":"1","timestamp":"0","sequenceNumber":"1","payload":"'
            + base64.b64encode(bytes(1600)).decode()
            + '"}}',
        ),
        (exotel.encode_clear()[0], '{"event":"clear","stream_sid":"s1"}'),
        (bandwidth.encode_clear()[0], '{"eventType":"clear"}'),
        (elks.encode_clear()[0], '{"t":"interrupt"}'),
    ):
        assert json.loads(ours) == json.loads(printed)


def test_audiosocket_frames() -> None:
    """The bytes of each frame."""
    uuid = bytes.fromhex("01 0010 00112233445566778899aabbccddeeff")
    assert frame(IDENTITY, UUID("00112233-4455-6677-8899-aabbccddeeff").bytes) == uuid
    assert frame(SOUND, bytes(320))[:3] == bytes.fromhex("10 0140")
    assert frame(HANG_UP) == bytes.fromhex("00 0000") == AudioSocket().encode_hang_up()[0]
    [shown, key] = Splitter().push(uuid + bytes.fromhex("03 0001 35"))
    dialect = AudioSocket()
    assert dialect.decode_message(shown) == []
    assert dialect.decode_message(key) == [Dtmf("5")]


def test_genesys_own_signature() -> None:
    """That of Genesys' documentation, which covers ``host``: the text that is signed is made as theirs is."""
    key = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
    values = {
        "@request-target": "/api/v1/voicebiometrics/ws",
        "host": "audiohook.example.com",
        "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
        "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
        "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
        "x-api-key": key,
    }
    covered = " ".join(f'"{name}"' for name in values)
    params = f'({covered});keyid="{key}";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256"'
    signed = base_of(f"{params};created=1641013200;expires=3282026430", values, values)
    secret = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
    digest = base64.b64encode(hmac.digest(secret, signed.encode(), "sha256")).decode()
    assert digest == "zupMJUMfd/kMuvKc5zhRyfJPE3jTROuz1S1hn8SCTpE="


def test_our_webhooks_are_signed_as_openais() -> None:
    """`realtime.call.incoming` by Standard Webhooks, with the base64 part of the secret."""
    body = b'{"id":"evt_1","type":"realtime.call.incoming"}'
    key = base64.b64decode("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")
    assert signature([key], "msg_1", 1700000000, body) == "v1,7D8oYr7WhQX97gdg7blsqTzPELfmcXRj1ykANz+vzwQ="
