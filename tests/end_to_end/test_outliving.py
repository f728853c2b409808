"""A conversation outlives its upstream: cut at random moments, it ends as it would have without."""

import asyncio
import base64
import random
from collections import Counter
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.cutting_proxy import CuttingProxy
from tests.end_to_end.event_log import Event, outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled

_TURNS = 100
_CUTS = 10
_DELETED_EVERY, _UPDATED_EVERY, _RETRIEVED_EVERY = 9, 7, 11


def _words(turn: int) -> str:
    """Of several lines, each of which is a delta of the answer."""
    return "\n".join(f"turn {turn}, line {line}" for line in range(turn % 4 + 1))


async def _turn(client: EventSocket, turn: int) -> None:
    """One typed turn, with whatever else is due in it; returns when it was answered."""
    content = [{"type": "input_text", "text": _words(turn)}]
    item = {"id": f"item_{turn}", "type": "message", "role": "user", "content": content}
    if turn % _UPDATED_EVERY == 0:
        session = {"type": "realtime", "instructions": f"as of turn {turn}"}
        await client.send({"type": "session.update", "event_id": f"update_{turn}", "session": session})
    await client.send({"type": "conversation.item.create", "event_id": f"create_{turn}", "item": item})
    await client.send({"type": "response.create", "event_id": f"respond_{turn}"})
    if turn % _RETRIEVED_EVERY == 0:
        await client.send({"type": "conversation.item.retrieve", "event_id": f"get_{turn}", "item_id": f"item_{turn}"})
    await client.wait(lambda: len(_completed(client.events)) == turn + 1, f"answer to turn {turn}")
    if turn % _DELETED_EVERY == 0:
        await client.send({"type": "conversation.item.delete", "event_id": f"del_{turn}", "item_id": f"item_{turn}"})


def _completed(events: list[Event]) -> list[Event]:
    return [e for e in events if e["type"] == "response.done" and e["response"]["status"] == "completed"]


async def _conversation(
    daemon: Daemon, upstream: Daemon, cable: CuttingProxy, cuts: dict[int, int]
) -> tuple[list[Any], list[Event]]:
    """All turns, in some of which the cable is cut when so many bytes have passed; the items in the end, as both
    daemons have them, and what the client got."""
    async with open_socket(daemon.url, "model=any") as client:
        await client.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})
        await client.until("session.updated")
        for turn in range(_TURNS):
            if turn in cuts:
                cable.cut_after(cuts[turn])
            await _turn(client, turn)
        deleted = {f"item_{turn}" for turn in range(0, _TURNS, _DELETED_EVERY)}
        await client.wait(lambda: deleted <= {e["item_id"] for e in client.of("conversation.item.deleted")}, "deletion")
        (session,) = daemon.registry.sessions
        (answering,) = (s for s in upstream.registry.sessions if not s.lifetime.closed.is_set())
        ours, theirs = (_said(s.state.conversation.items()) for s in (session, answering))
        assert ours == theirs
        return ours, client.events


def _said(items: list[Any]) -> list[tuple[str, str]]:
    return [(item.role, "".join(part.text for part in item.content)) for item in items]


def _expected() -> list[tuple[str, str]]:
    said = []
    for turn in range(_TURNS):
        if turn % _DELETED_EVERY:
            said.append(("user", _words(turn)))
        said.append(("assistant", f"You wrote: {_words(turn)}"))
    return said


def _told_of(events: list[Event]) -> dict[str, list[Event]]:
    """By item: what was told of it."""
    told: dict[str, list[Event]] = {}
    for event in events:
        if event["type"].startswith("conversation.item."):
            told.setdefault(event.get("item_id") or event["item"]["id"], []).append(event)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_hundred_turns_and_ten_cuts(serve_with: ServeWith, seed: int) -> None:
    """The same items in the same order as without cuts; all that was asked is answered once, all that began ends."""
    chance = random.Random(seed)
    async with (
        serve_with(resume_grace_s=0) as upstream,  # a conversation that was cut off is over there
        CuttingProxy.serving(upstream.port) as cable,
        serve_with(upstream=f"ws://127.0.0.1:{cable.port}/v1/realtime") as daemon,
    ):
        unharmed, _ = await _conversation(daemon, upstream, cable, {})
        cuts = {turn: chance.randint(1, cable.passed // _TURNS) for turn in chance.sample(range(0, _TURNS, 2), _CUTS)}
        said, events = await _conversation(daemon, upstream, cable, cuts)
    assert unharmed == said == _expected()
    assert cable.cuts == _CUTS
    assert {e["error"]["code"] for e in events if e["type"] == "error"} == {"upstream_reconnecting"}
    _check_answers(events)
    _check_items(events)


def _check_answers(events: list[Event]) -> None:
    created = [e["response"]["id"] for e in events if e["type"] == "response.created"]
    done = [e["response"]["id"] for e in events if e["type"] == "response.done"]
    assert created == done
    assert len(set(done)) == len(done)
    assert len(_completed(events)) == _TURNS
    given_up = [e["response"] for e in events if e["type"] == "response.done" and e["response"]["status"] == "failed"]
    assert {response["status_details"]["error"]["code"] for response in given_up} <= {"upstream_lost"}
    assert len(given_up) + _TURNS == len(done)
    opened, closed = (
        Counter(_place(e) for e in events if e["type"] == f"response.{what}")
        for what in ("content_part.added", "content_part.done")
    )
    assert opened == closed
    texts = Counter(_place(e) for e in events if e["type"] == "response.output_text.done")
    assert texts == opened
    # Each update that was asked for, the first one, and one more for each loss.
    losses = sum(e["type"] == "error" for e in events)
    updates = sum(e["type"] == "session.updated" for e in events)
    assert updates == 1 + len(range(0, _TURNS, _UPDATED_EVERY)) + losses
    retrieved = [e["item"]["id"] for e in events if e["type"] == "conversation.item.retrieved"]
    assert retrieved == [f"item_{turn}" for turn in range(0, _TURNS, _RETRIEVED_EVERY)]


def _place(event: Event) -> tuple[str, str, int]:
    return event["response_id"], event["item_id"], event["content_index"]


def _check_items(events: list[Event]) -> None:
    in_the_end = {e["response"]["output"][0]["id"] for e in _completed(events)}
    in_the_end |= {f"item_{turn}" for turn in range(_TURNS) if turn % _DELETED_EVERY}
    told = _told_of(events)
    for item_id, about in told.items():
        kinds = [e["type"].removeprefix("conversation.item.") for e in about]
        kinds = [kind for kind in kinds if kind != "retrieved"]
        expected = ["added", "done"] if item_id in in_the_end else ["added", "done", "deleted"]
        assert kinds == expected, (item_id, kinds)
    assert in_the_end <= told.keys()


@pytest.mark.parametrize("moment", ["input_audio_buffer.speech_started", "response.output_audio.delta"])
async def test_a_spoken_turn_and_a_cut(serve_with: ServeWith, short_pcm: bytes, moment: str) -> None:
    """Cut while the caller speaks, or while it is answered: the answer is to all that was said, on one clock."""
    async with (
        serve_with() as upstream,
        CuttingProxy.serving(upstream.port) as cable,
        serve_with(upstream=f"ws://127.0.0.1:{cable.port}/v1/realtime") as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        await _append(client, bytes(48 * 3000) + short_pcm[: 48 * 1000])
        if moment == "input_audio_buffer.speech_started":
            await client.until(moment)
            cable.cut_after(1)
        await _append(client, short_pcm[48 * 1000 :])
        if moment == "response.output_audio.delta":
            await client.until(moment)
            cable.cut_after(1)
        await client.wait(lambda: len(_completed(client.events)) == 1, "answer")
    assert cable.cuts == 1
    answer = _completed(client.events)[0]["response"]["id"]
    sound = outbound_sound([e for e in client.of("response.output_audio.delta") if e["response_id"] == answer])
    assert match(samples_of(sound), samples_of(short_pcm)).correlation > 0.95
    stopped = client.of("input_audio_buffer.speech_stopped")
    assert len(stopped) == 1
    assert 3000 + 2000 <= stopped[0]["audio_end_ms"] <= 3000 + 3000
    [added] = [e["item"] for e in client.of("conversation.item.added") if e["item"]["role"] == "user"]
    assert added["id"] == stopped[0]["item_id"]


async def _append(client: EventSocket, sound: bytes) -> None:
    for at in range(0, len(sound), 48 * 100):
        piece = base64.b64encode(sound[at : at + 48 * 100]).decode()
        await client.send({"type": "input_audio_buffer.append", "audio": piece})


async def test_a_cable_that_is_cut_all_the_time(serve_with: ServeWith) -> None:
    """An upstream that takes every call and never lives to answer is given up, and the next one answers."""
    async with (
        serve_with() as upstream,
        CuttingProxy.serving(upstream.port) as cable,
        serve_with(upstream=f"ws://127.0.0.1:{cable.port}/v1/realtime", upstream_fallback=("local",)) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        cable.cut_after(3_000, again=True)
        await client.send({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}})
        content = [{"type": "input_text", "text": "x" * 3_000}]
        item = {"id": "item_a", "type": "message", "role": "user", "content": content}
        await client.send({"type": "conversation.item.create", "item": item})
        await client.send({"type": "response.create"})
        async with asyncio.timeout(scaled(10)):
            await client.wait(lambda: len(_completed(client.events)) == 1, "answer")
        assert cable.connections < 10
