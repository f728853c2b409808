"""The carriers that ``bridge call --as`` plays: what the references say of buffers, marks, flow control, complaints."""

import json
from typing import Any
from uuid import UUID

import pytest

from bridge.client.carriers.asterisk import AsteriskCarrier
from bridge.client.carriers.audiosocket import AudioSocketCarrier
from bridge.client.carriers.contract import Buffer, SimulatedCarrier
from bridge.client.carriers.telnyx import TelnyxCarrier
from bridge.client.carriers.twilio import TwilioCarrier
from bridge.telephony.audiosocket.dialect import frame
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.telnyx.dialect import TELNYX_DIALECT
from bridge.telephony.twilio.dialect import TWILIO_DIALECT
from bridge.wire.audio import G711_ULAW, pcm16_at

_SILENT, _LOUD = b"\xff" * 160, b"\x11" * 160
_UUID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def _twilio() -> tuple[TwilioCarrier, JsonDialect]:
    carrier, dialect = TwilioCarrier("CA1", "MZ1", {"token": "t"}), JsonDialect(TWILIO_DIALECT)
    for message in carrier.opening_messages():
        dialect.decode_message(message)
    return carrier, dialect


def _names(messages: list[str | bytes]) -> list[str]:
    return [json.loads(message)["mark"]["name"] for message in messages]


# The buffer


def test_sound_is_played_in_frames() -> None:
    """Whatever the pieces; what is missing is silence."""
    buffer = Buffer(G711_ULAW)
    buffer.add_sound(_LOUD[:100])
    buffer.add_sound(_LOUD[:100])
    assert buffer.queued_ms == 25
    assert buffer.play_frame() == (_LOUD, [])
    assert buffer.play_frame() == (_LOUD[:40] + _SILENT[40:], [])
    assert buffer.play_frame() == (_SILENT, [])


def test_mark_is_passed_when_all_before_it_is_played() -> None:
    """At once where nothing waits; not by a frame that is cut off within the piece before it."""
    buffer = Buffer(G711_ULAW)
    assert buffer.mark("a") == ["a"]
    buffer.add_sound(_LOUD + _LOUD[:10])
    assert buffer.mark("b") == []
    assert buffer.mark("c") == []
    assert buffer.play_frame()[1] == []
    assert buffer.play_frame()[1] == ["b", "c"]
    assert buffer.mark("d") == ["d"]


def test_late_frames_are_counted() -> None:
    """A hole within an answer, but not the pause between two, and not one that was asked for."""
    buffer = Buffer(G711_ULAW)
    for _ in range(10):
        buffer.play_frame()
    buffer.add_sound(_LOUD)
    buffer.play_frame()
    buffer.play_frame()
    buffer.play_frame()
    buffer.add_sound(_LOUD)
    assert buffer.late_frames == 2
    buffer.clear()
    buffer.play_frame()
    buffer.add_sound(_LOUD)
    for _ in range(100):
        buffer.play_frame()
    buffer.add_sound(_LOUD)
    assert buffer.late_frames == 2


# Twilio


def test_twilio_plays_marks_and_clears() -> None:
    """Marks come back when they are passed, and all at once when the buffer is cleared."""
    carrier, dialect = _twilio()
    assert carrier.receive_bridge_message(dialect.encode_sound(_LOUD * 2)) == []
    assert carrier.receive_bridge_message(str(dialect.encode_mark("a")[0])) == []
    assert carrier.play_frame() == (_LOUD, [])
    heard, said = carrier.play_frame()
    assert (heard, _names(said)) == (_LOUD, ["a"])
    carrier.receive_bridge_message(dialect.encode_sound(_LOUD * 2))
    for name in ("b", "c"):
        carrier.receive_bridge_message(str(dialect.encode_mark(name)[0]))
    assert _names(carrier.receive_bridge_message(str(dialect.encode_clear()[0]))) == ["b", "c"]
    assert carrier.play_frame() == (_SILENT, [])
    assert carrier.complaints == []


def test_twilio_numbers_its_messages_as_strings() -> None:
    """``connected`` has no number, ``start`` is the first; chunks count by themselves."""
    carrier = TwilioCarrier("CA1", "MZ1", {})
    connected, start = map(json.loads, carrier.opening_messages())
    assert "sequenceNumber" not in connected
    assert (start["sequenceNumber"], start["streamSid"]) == ("1", "MZ1")
    [dtmf], [media] = map(json.loads, carrier.key_messages("5")), map(json.loads, carrier.audio_messages(_LOUD))
    assert (dtmf["sequenceNumber"], media["sequenceNumber"]) == ("2", "3")
    assert (media["media"]["chunk"], media["media"]["timestamp"]) == ("1", "20")


@pytest.mark.parametrize(
    "message",
    [
        "{",
        '{"event":"hello"}',
        '{"event":"clear"}',
        '{"event":"clear","streamSid":"other"}',
        '{"event":"clear","streamSid":"MZ1","more":1}',
        '{"event":"media","streamSid":"MZ1","media":{"payload":"%"}}',
        '{"event":"media","streamSid":"MZ1","media":{"payload":"/w==","track":"outbound"}}',
        '{"event":"mark","streamSid":"MZ1","mark":{}}',
        '{"event":"mark","streamSid":"MZ1","mark":"a"}',
    ],
)
def test_twilio_complains(message: str) -> None:
    """About each field that is missing, wrong or too many: 31951."""
    carrier, _ = _twilio()
    assert carrier.receive_bridge_message(message) == []
    assert [complaint[:5] for complaint in carrier.complaints] == ["31951"]


def test_twilio_complains_of_binary_and_of_too_much() -> None:
    """31950, and 31931 behind ten minutes of sound."""
    carrier, dialect = _twilio()
    carrier.receive_bridge_message(b"\0")
    for _ in range(602):
        carrier.receive_bridge_message(dialect.encode_sound(_LOUD * 50))
    assert [complaint[:5] for complaint in carrier.complaints] == ["31950", "31931"]


# Telnyx


def test_telnyx_plays_marks_and_clears() -> None:
    """As Twilio does, without a stream's id."""
    carrier, dialect = TelnyxCarrier("c", "s", {}), JsonDialect(TELNYX_DIALECT)
    carrier.receive_bridge_message(dialect.encode_sound(_LOUD))
    carrier.receive_bridge_message(str(dialect.encode_mark("a")[0]))
    heard, said = carrier.play_frame()
    assert (heard, _names(said)) == (_LOUD, ["a"])
    carrier.receive_bridge_message(dialect.encode_sound(_LOUD))
    carrier.receive_bridge_message(str(dialect.encode_mark("b")[0]))
    assert _names(carrier.receive_bridge_message(str(dialect.encode_clear()[0]))) == ["b"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 100003),
        ('{"event":"hello"}', 100003),
        ('{"event":"media","media":{"payload":"%"}}', 100004),
        (JsonDialect(TELNYX_DIALECT).encode_sound(_LOUD[:159]), 100003),
        (JsonDialect(TELNYX_DIALECT).encode_sound(_LOUD * 1501), 100003),
    ],
)
def test_telnyx_answers_with_an_error(message: str, code: int) -> None:
    """Not base64, shorter than 20 ms, longer than 30 s, or no message at all."""
    carrier = TelnyxCarrier("c", "s", {})
    [error] = map(json.loads, carrier.receive_bridge_message(message))
    assert (error["event"], error["payload"]["code"]) == ("error", code)
    assert len(carrier.complaints) == 1


# Asterisk


def _json(carrier: SimulatedCarrier, **command: Any) -> list[Any]:
    return [json.loads(message) for message in carrier.receive_bridge_message(json.dumps(command))]


def test_asterisk_plays_whole_frames() -> None:
    """The tail is dropped, but for bulk media, where it is kept until the end."""
    carrier = AsteriskCarrier("pbx-1", is_json=True)
    carrier.receive_bridge_message(_LOUD * 2 + b"tail")
    assert carrier.complaints == ["tail dropped"]
    assert [carrier.play_frame()[0] for _ in range(3)] == [_LOUD, _LOUD, _SILENT]
    _json(carrier, command="START_MEDIA_BUFFERING")
    carrier.receive_bridge_message(_LOUD[:100])
    carrier.receive_bridge_message(_LOUD[:100])
    _json(carrier, command="STOP_MEDIA_BUFFERING", correlation_id="x")
    assert carrier.play_frame() == (_LOUD, [])
    heard, [completed] = carrier.play_frame()
    assert heard == _LOUD[:40] + _SILENT[40:]
    assert json.loads(completed)["event"] == "MEDIA_BUFFERING_COMPLETED"
    assert len(carrier.complaints) == 1


def test_asterisk_says_when_it_is_full() -> None:
    """XOFF at 900 frames, XON below 800; from 1,000 on whole messages are lost."""
    carrier = AsteriskCarrier("pbx-1", is_json=True)
    assert carrier.receive_bridge_message(_LOUD * 400) == []
    assert carrier.receive_bridge_message(_LOUD * 400) == []
    [xoff] = map(json.loads, carrier.receive_bridge_message(_LOUD * 100))
    assert (xoff["event"], carrier.queue_length) == ("MEDIA_XOFF", 900)
    assert carrier.receive_bridge_message(_LOUD * 200) == []
    carrier.receive_bridge_message(_LOUD)
    assert carrier.complaints == ["queue overflow"]
    said = [message for _ in range(301) for message in carrier.play_frame()[1]]
    assert [json.loads(message)["event"] for message in said] == ["MEDIA_XON"]
    assert carrier.queue_length == 799


def test_asterisk_marks_and_flush() -> None:
    """A mark is told when it is passed; a flush drops marks without a word."""
    carrier = AsteriskCarrier("pbx-1")
    carrier.receive_bridge_message(_LOUD)
    carrier.receive_bridge_message("MARK_MEDIA a")
    assert carrier.play_frame() == (_LOUD, ["MEDIA_MARK_PROCESSED a"])
    carrier.receive_bridge_message(_LOUD)
    carrier.receive_bridge_message("MARK_MEDIA b")
    assert carrier.receive_bridge_message("FLUSH_MEDIA") == []
    assert carrier.play_frame() == (_SILENT, [])


def test_asterisk_pauses_and_tells_its_state() -> None:
    """Paused it plays nothing; drained it says so once."""
    carrier = AsteriskCarrier("pbx-1", is_json=True)
    carrier.receive_bridge_message(_LOUD)
    _json(carrier, command="PAUSE_MEDIA")
    _json(carrier, command="REPORT_QUEUE_DRAINED")
    assert carrier.play_frame() == (_SILENT, [])
    [status] = _json(carrier, command="GET_STATUS")
    assert (status["queue_length"], status["media_paused"], status["xoff_level"]) == (1, True, 900)
    _json(carrier, command="CONTINUE_MEDIA")
    heard, [drained] = carrier.play_frame()
    assert (heard, json.loads(drained)["event"]) == (_LOUD, "QUEUE_DRAINED")
    assert carrier.play_frame() == (_SILENT, [])


def test_asterisk_speaks_as_it_was_dialled() -> None:
    """A JSON channel answers plain text with an error, a plain one does not hear JSON, neither hears long messages."""
    as_json, plain = AsteriskCarrier("pbx-1", is_json=True), AsteriskCarrier("pbx-1")
    assert json.loads(as_json.opening_messages()[0])["event"] == "MEDIA_START"
    assert str(plain.opening_messages()[0]).startswith("MEDIA_START connection_id:")
    [error] = map(json.loads, as_json.receive_bridge_message("FLUSH_MEDIA"))
    assert error["event"] == "ERROR"
    assert plain.receive_bridge_message('{"command":"FLUSH_MEDIA"}') == []
    assert str(plain.receive_bridge_message("DANCE")[0]).startswith("ERROR channel_id:pbx-1 error_text:")
    assert plain.receive_bridge_message("MARK_MEDIA " + "x" * 128) == []
    assert plain.complaints == ["unknown command DANCE", "control message too long"]
    assert str(plain.receive_bridge_message("GET_STATUS")[0]).endswith("media_paused:false")


def test_asterisk_hangs_up() -> None:
    """When it is told, and when a message is too big."""
    told, burst = AsteriskCarrier("pbx-1"), AsteriskCarrier("pbx-1")
    told.receive_bridge_message("HANGUP")
    burst.receive_bridge_message(bytes(65_501))
    assert told.has_hung_up
    assert burst.has_hung_up


# AudioSocket


def test_audiosocket_plays_what_comes_in_time() -> None:
    """Once it plays, a frame that is not there is late, and a burst is lost."""
    carrier = AudioSocketCarrier(_UUID, pcm16_at(8000))
    sound = frame(0x10, b"\x11" * 320)
    for _ in range(3):
        carrier.receive_bridge_message(sound)
    assert [carrier.play_frame()[0] for _ in range(4)] == [b"\x11" * 320] * 3 + [bytes(320)]
    assert carrier.late_frames == 1
    for _ in range(11):
        carrier.receive_bridge_message(sound)
    assert carrier.complaints == ["burst"]


@pytest.mark.parametrize("message", [frame(0x10), frame(0x01, bytes(16)), frame(0x03, b"5"), frame(0xFF)])
def test_audiosocket_ends_at_any_other_frame(message: bytes) -> None:
    """Only sound that is some, and hang-up, may be sent."""
    carrier = AudioSocketCarrier(_UUID, pcm16_at(8000))
    carrier.receive_bridge_message(message)
    assert carrier.has_hung_up
    assert len(carrier.complaints) == 1


def test_audiosocket_hangs_up() -> None:
    """Without a complaint."""
    carrier = AudioSocketCarrier(_UUID, pcm16_at(8000))
    carrier.receive_bridge_message(frame(0x00))
    assert (carrier.has_hung_up, carrier.complaints) == (True, [])
