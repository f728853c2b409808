"""What a new upstream must be told: items in order, words where there are any, and sound while it is kept."""

import base64
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from bridge.session.state import SessionState
from bridge.upstream.recall import Recall, items_to_tell, promised_items
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ULAW, PCM16, pcm16_at
from bridge.wire.sessions import AudioConfig, AudioInput, default_session

MS = PCM16.bytes_per_ms


def tone(duration_ms: int) -> bytes:
    """400 Hz, which every format carries."""
    at = np.arange(24 * duration_ms)
    return (8000 * np.sin(2 * np.pi * 400 * at / 24_000)).astype("<i2").tobytes()


def new_state(**audio: Any) -> SessionState:
    config = default_session(session_id="sess_1", model="m", expires_at=0)
    if audio:
        config = msgspec.structs.replace(config, audio=AudioConfig(input=AudioInput(**audio)))
    return SessionState(config)


def recalled(sound: bytes, state: SessionState | None = None) -> Recall:
    recall = Recall(state or new_state())
    for at in range(0, len(sound), 20 * MS):
        recall.push(sound[at : at + 20 * MS], PCM16)
    return recall


def test_between_turns_only_the_last_second_counts() -> None:
    """Nobody speaks: what may belong to the next turn is kept, the rest of an open microphone is not."""
    recall = recalled(tone(10_000))
    assert recall.heard_ms == 10_000
    assert 1000 <= len(recall.uncommitted(PCM16)) // MS <= 2000


def test_a_turn_is_kept_from_before_its_beginning() -> None:
    """It began a little before it was noticed; half a minute of it is kept."""
    recall = recalled(tone(5000))
    recall.follow(server.InputAudioBufferSpeechStarted(audio_start_ms=4500, item_id="i"))
    for _ in range(1000):
        recall.push(tone(20), PCM16)
    assert len(recall.uncommitted(PCM16)) // MS >= 21_000
    for _ in range(5000):
        recall.push(tone(20), PCM16)
    assert 30_000 <= len(recall.uncommitted(PCM16)) // MS <= 60_000
    recall.follow(server.InputAudioBufferSpeechStopped(audio_end_ms=1, item_id="i"))
    recall.push(tone(20), PCM16)
    assert len(recall.uncommitted(PCM16)) // MS <= 2000


def test_where_clients_end_turns_all_of_it_is_kept() -> None:
    """Nobody says when such a turn began."""
    recall = recalled(tone(20_000), new_state(turn_detection=None))
    assert recall.uncommitted(PCM16) == tone(20_000)


def test_committed_and_cleared_sound_is_not_heard_again() -> None:
    """A turn's sound is its item's, until its words are known; what was cleared is nobody's."""
    recall = recalled(tone(500))
    recall.follow(server.InputAudioBufferCommitted(item_id="item_a"))
    assert recall.uncommitted(PCM16) == b""
    assert recall.sound_of("item_a", PCM16) == tone(500)
    recall.push(tone(100), PCM16)
    recall.follow(server.InputAudioBufferCleared())
    assert recall.uncommitted(PCM16) == b""
    recall.follow(server.InputAudioTranscriptionCompleted(item_id="item_a", transcript="beep", usage={}))
    assert recall.sound_of("item_a", PCM16) == b""


def test_a_minute_of_turns_is_kept() -> None:
    """The oldest sound makes room; that turn is then told without its words."""
    recall = Recall(new_state(turn_detection=None))
    for number in range(4):
        for _ in range(1000):
            recall.push(tone(20), PCM16)
        recall.follow(server.InputAudioBufferCommitted(item_id=f"item_{number}"))
    kept = [len(recall.sound_of(f"item_{number}", PCM16)) // MS for number in range(4)]
    assert kept == [0, 20_000, 20_000, 20_000]


def test_another_upstream_takes_another_format() -> None:
    """What is kept is told in the format that the next one takes, with nothing of its length lost."""
    recall = recalled(tone(600), new_state(turn_detection=None))
    recall.follow(server.InputAudioBufferCommitted(item_id="item_a"))
    recall.push(tone(400), PCM16)
    narrow = pcm16_at(16_000)
    assert len(recall.uncommitted(narrow)) == 400 * narrow.bytes_per_ms
    assert len(recall.sound_of("item_a", narrow)) == 600 * narrow.bytes_per_ms
    recall.push(bytes(20 * narrow.bytes_per_ms), narrow)
    assert abs(len(recall.uncommitted(G711_ULAW)) - 420 * 8) <= 8
    heard = np.frombuffer(recall.sound_of("item_a", PCM16), "<i2")
    assert np.abs(heard).max() > 7000


def test_a_promise_is_kept_until_the_item_is_there() -> None:
    """A committed turn that is no item yet is told as one, with its sound where there is any."""
    recall = recalled(tone(300))
    for item_id in ("item_a", "item_b"):
        recall.follow(server.InputAudioBufferCommitted(item_id=item_id))
    first, second = promised_items(recall, PCM16)
    assert (first["item"]["id"], first["item"]["role"]) == ("item_a", "user")
    assert base64.b64decode(first["item"]["content"][0]["audio"]) == tone(300)
    assert second["item"]["content"][0]["type"] == "input_text"
    for item_id in ("item_a", "item_x"):
        recall.follow(server.ConversationItemAdded(item=items.Message(id=item_id, role="user", content=[])))
    assert [event["item"]["id"] for event in promised_items(recall, PCM16)] == ["item_b"]


def test_items_are_told_as_a_client_may_write_them() -> None:
    """In order, each behind the one before it; answers as their words, and nothing where there is nothing to say."""
    state = new_state()
    said: list[items.Item] = [
        items.Message(id="a", status="completed", role="user", content=[items.InputAudio(transcript="hello")]),
        items.Message(
            id="b", role="assistant", content=[items.OutputAudio(transcript="hi"), items.OutputText(text="!")]
        ),
        items.Message(id="c", role="assistant", content=[items.OutputAudio(transcript=UNSET)]),
        items.FunctionCall(id="d", object="realtime.item", status="completed", call_id="1", name="f", arguments="{}"),
        items.FunctionCallOutput(id="e", call_id="1", output="3"),
        items.Message(id="f", role="user", content=[items.InputAudio(), items.InputImage(image_url="data:,")]),
        items.Message(id="g", role="user", content=[items.InputAudio()]),
    ]
    for item in said:
        state.conversation.insert(item, state.conversation.last_item_id)
    recall = recalled(tone(40))
    recall.follow(server.InputAudioBufferCommitted(item_id="g"))
    told = items_to_tell(state, recall, PCM16)
    assert [(event["item"]["id"], event["previous_item_id"]) for event in told] == [
        ("a", "root"), ("b", "a"), ("d", "b"), ("e", "d"), ("f", "e"), ("g", "f"),
    ]  # fmt: skip
    contents = {event["item"]["id"]: event["item"].get("content") for event in told}
    assert contents["a"] == [{"type": "input_text", "text": "hello"}]
    assert contents["b"] == [{"type": "output_text", "text": "hi"}, {"type": "output_text", "text": "!"}]
    assert told[2]["item"] == {"id": "d", "type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    assert contents["f"] == [
        {"type": "input_text", "text": "(spoken; the words are not known)"},
        {"type": "input_image", "image_url": "data:,"},
    ]
    assert base64.b64decode(contents["g"][0]["audio"]) == tone(40)


def test_after_the_call_nothing_is_kept() -> None:
    """What was committed and what was not are both gone."""
    recall = recalled(tone(2000), new_state(turn_detection=None))
    recall.follow(server.InputAudioBufferCommitted(item_id="item_1"))
    recall.push(tone(500), PCM16)
    recall.clear()
    assert recall.sound_of("item_1", PCM16) == recall.uncommitted(PCM16) == b""
