"""A recorded call is made again: what the client did is found out, and what is different is said."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Call, CallFailed, Plan
from bridge.client.replay import Recorded, ReplayedCall, TimedEvent, differences, read_recording
from bridge.client.replay.recording import client_acts
from bridge.client.sound import BYTES_PER_MS, PHRASE, read_sound, sounding_end
from bridge.daemon import Daemon
from tests.check.mutant import Event, Fault, mutant
from tests.processes import ran
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_ALIKE = 0.6  # the parrot says how long the turn was, to a tenth of a second
_TOLERANCE_MS = 5000


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The events' file of a call that was spoken, answered and recorded by a daemon that is gone."""
    folder = tmp_path_factory.mktemp("recordings")
    settings: dict[str, Any] = {"record_dir": str(folder), "record_calls": True, "record_format": "ogg"}
    async with Daemon(config_for_tests(**settings)) as recorder:
        call = Call(Plan(recorder.url, transport="websocket", pcm=read_sound(PHRASE), instructions="Be brief."))
        assert (await call.run()).result == "answered"
    [file] = folder.glob("*.jsonl")
    return str(file)


@pytest.fixture(scope="module")
async def recorded(recording: str) -> Recorded:
    """The same, read."""
    return await asyncio.to_thread(read_recording, recording)


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon that answers as the one that recorded."""
    async with Daemon(config_for_tests()) as serving:
        yield serving


def _events(*kinds: str | tuple[str, int]) -> list[TimedEvent]:
    pairs = [(kind, 0) if isinstance(kind, str) else kind for kind in kinds]
    return [TimedEvent(at_ms, {"type": kind}) for kind, at_ms in pairs]


# What a recording says


async def test_a_recording_has_what_the_caller_did(recorded: Recorded) -> None:
    """The caller's sound alone, the settings that were asked for, and no answer that nobody asked for."""
    assert recorded.model == "gpt-realtime-2.1"
    assert 1500 < sounding_end(recorded.pcm) / BYTES_PER_MS < 3000
    assert [act.event["type"] for act in recorded.acts] == ["session.update"]
    assert recorded.acts[0].event["session"] == {"type": "realtime", "instructions": "Be brief."}


def test_what_clients_send_is_concluded() -> None:
    """Items of text, results of functions, manual turns and responses that were asked for; nothing of the model's."""
    no_turns = {"audio": {"input": {"turn_detection": None}}}
    events = [
        TimedEvent(0, {"type": "session.created", "session": {}}),
        TimedEvent(5, {"type": "session.updated", "session": no_turns}),
        TimedEvent(10, _added("message", role="user", content=[{"type": "input_text", "text": "Hi."}])),
        TimedEvent(20, {"type": "response.created", "response": {"output_modalities": ["text"]}}),
        TimedEvent(30, _added("message", role="assistant", content=[])),
        TimedEvent(40, _added("function_call_output", call_id="call_1", output="{}")),
        TimedEvent(50, {"type": "input_audio_buffer.committed", "item_id": "item_2"}),
        TimedEvent(55, _added("message", role="user", content=[{"type": "input_audio", "transcript": None}])),
        TimedEvent(60, {"type": "response.created", "response": {"conversation_id": None}}),
    ]
    acts = [(act.at_ms, act.event["type"]) for act in client_acts(events)]
    assert acts == [
        (5, "session.update"),
        (10, "conversation.item.create"),
        (20, "response.create"),
        (40, "conversation.item.create"),
        (50, "input_audio_buffer.commit"),
        (60, "response.create"),
    ]
    asked = [act.event["response"] for act in client_acts(events) if act.event["type"] == "response.create"]
    assert asked == [{"output_modalities": ["text"]}, {"conversation": "none"}]


def _added(kind: str, **item: Any) -> dict[str, Any]:
    return {
        "type": "conversation.item.added",
        "item": {"type": kind, "id": "item_1", "object": "realtime.item", **item},
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl.age", "", "is encrypted"),
        ("a.jsonl", '{"at_ms": 0}\n', "line 1, is no"),
        ("a.jsonl", "what?\n", "line 1, is no"),
        ("a.jsonl", '{"at_ms": 0, "event": {"type": "x"}}\n', "There is no sound beside"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    """With what is missing, and without a call."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(CallFailed, match=words):
        read_recording(str(file))
    with pytest.raises(CallFailed, match="cannot be read"):
        read_recording(str(tmp_path / "none.jsonl"))


# What is different


def test_the_order_is_compared_without_what_comes_beside_it() -> None:
    """Deltas, repetitions, transcripts and the bridge's own events do not count; what is missing or new does."""
    before = _events("a", "x.delta", "x.delta", "b", "bridge.call.closed", "c")
    same = _events("a", "x.delta", "b", "conversation.item.input_audio_transcription.completed", "c")
    assert differences(before, same, tolerance_ms=0) == []
    [missing] = differences(before, _events("a", "c"), tolerance_ms=0)
    assert (missing.about, missing.words) == ("order", "b, behind a, did not come")
    [new] = differences(before, _events("a", "b", "d", "c"), tolerance_ms=0)
    assert new.words == "d, behind b, came as well"


def test_words_are_compared_without_case_and_punctuation() -> None:
    """An answer that says something else is told with both texts; how much may differ is a setting."""
    before, now = _said("One, two, three."), _said("one two THREE")
    assert differences(before, now, tolerance_ms=0) == []
    [other] = differences(before, _said("One, two, four."), tolerance_ms=0)
    assert (other.about, other.before, other.now) == ("words", "One, two, three.", "One, two, four.")
    assert differences(before, _said("One, two, four."), tolerance_ms=0, min_similarity=0.6) == []


def _said(text: str) -> list[TimedEvent]:
    output = [{"type": "message", "content": [{"type": "output_audio", "transcript": text}]}]
    return [TimedEvent(0, {"type": "response.done", "response": {"output": output}})]


def test_an_answer_that_comes_later_is_told() -> None:
    """Measured from the end of the caller's turn; sooner is no difference."""
    stopped, created, done = "input_audio_buffer.speech_stopped", "response.created", "response.done"
    before = _events((stopped, 100), (created, 200), (done, 900))
    assert differences(before, _events((stopped, 500), (created, 550), (done, 600)), tolerance_ms=0) == []
    late = differences(before, _events((stopped, 0), (created, 700), (done, 900)), tolerance_ms=300)
    assert [(each.about, each.words) for each in late] == [("timing", "answer 1 begins 600 ms later")]


def test_a_caller_who_hung_up_in_an_answer_is_compared_up_to_it() -> None:
    """The answer that was not finished then is finished now; that is no difference."""
    before = _events("response.created", "response.done", "response.created")
    now = _events("response.created", "response.done", "response.created", "response.done")
    assert differences(before, now, tolerance_ms=0) == []


# Whole calls


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_the_same_server_does_the_same(daemon: Daemon, recorded: Recorded, transport: Any) -> None:
    """A recorded call that is made again on the server that recorded it has the same words and order."""
    events = await ReplayedCall(recorded, Plan(daemon.url, transport=transport)).run()
    found = differences(recorded.events, events, tolerance_ms=_TOLERANCE_MS, min_similarity=_ALIKE)
    assert [(each.about, each.words) for each in found] == []
    assert sum(each.kind == "response.done" for each in events) == 1


def _other_words(event: Event) -> list[Event | str]:
    if event["type"] == "response.done":
        for item in event["response"]["output"]:
            for part in item["content"]:
                part["transcript"] = "Entirely different, I should say."
    return [event]


def _without_item(event: Event) -> list[Event | str]:
    return [] if event["type"] == "conversation.item.added" else [event]


@pytest.mark.parametrize(("change", "about"), [(_other_words, "words"), (_without_item, "order")])
async def test_a_changed_server_is_found_out(daemon: Daemon, recording: str, change: Any, about: str) -> None:
    """By the command, with exit code 1: other words, or an event that no longer comes."""
    flags = ("--min-similarity", str(_ALIKE), "--tolerance-ms", str(_TOLERANCE_MS))
    async with mutant(daemon.url, Fault(server=change)) as url:
        code, out, errors = await ran(sys.executable, "-m", "bridge", "replay", recording, url, *flags)
    assert (code, errors) == (1, "")
    assert out.splitlines()[1].startswith(about)
    assert "difference" in out.splitlines()[-1]


async def test_the_command_says_that_nothing_is_different(daemon: Daemon, recording: str, tmp_path: Path) -> None:
    """Exit code 0; what came this time is written as a recording's events are."""
    out_file, differences_file = tmp_path / "now.jsonl", tmp_path / "differences.json"
    flags = ("--min-similarity", str(_ALIKE), "--tolerance-ms", str(_TOLERANCE_MS))
    files = ("--out", str(out_file), "--json", str(differences_file))
    code, out, errors = await ran(sys.executable, "-m", "bridge", "replay", recording, daemon.url, *flags, *files)
    assert (code, errors) == (0, "")
    assert "Nothing differs; 1 answers" in out
    lines = [json.loads(line) for line in out_file.read_text().splitlines()]
    assert "response.done" in [line["event"]["type"] for line in lines]
    assert json.loads(differences_file.read_text()) == {"differences": []}


async def test_the_command_says_what_to_do(tmp_path: Path) -> None:
    """Exit code 1 with one line if there is no recording, 2 for a flag that cannot be."""
    code, _, errors = await ran(sys.executable, "-m", "bridge", "replay", str(tmp_path / "none.jsonl"))
    assert code == 1
    assert errors.startswith("bridge replay: ")
    code, _, errors = await ran(sys.executable, "-m", "bridge", "replay", "a.jsonl", "--min-similarity", "2")
    assert code == 2
    assert "no number from 0 to 1" in errors
