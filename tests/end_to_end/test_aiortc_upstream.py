"""A stock aiortc peer as the upstream: it answers our offer, and plays its answers instead of sending them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import EventSocket, open_socket
from tests.upstream.aiortc_service import AiortcCall, AiortcService

_LIKENESS = 0.9
_SECOND = 2 * 24_000
_DELTA = "response.output_audio.delta"
_DONE_EVENTS = {
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
}


@asynccontextmanager
async def _call(serve_with: ServeWith) -> AsyncIterator[tuple[EventSocket, AiortcCall]]:
    """A client over WebSocket, and the service that it talks to."""
    async with (
        AiortcService.serving() as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        yield client, service.calls[0]


async def _append(client: EventSocket, sound: bytes) -> None:
    for at in range(0, len(sound), _SECOND):
        piece = base64.b64encode(sound[at : at + _SECOND]).decode()
        await client.send({"type": "input_audio_buffer.append", "audio": piece})


async def _commit(client: EventSocket) -> None:
    await client.send({"type": "input_audio_buffer.commit"})


async def test_an_answer_is_heard_under_its_names(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """Each answer's sound has its item's id; no delta comes of silence; what says that it is done comes behind it."""
    spoken = speech_pcm[: 2 * _SECOND]
    async with _call(serve_with) as (client, service):
        for number in (1, 2):
            await service.voice.speak(bytes(_SECOND // 2))
            before = len(client.of(_DELTA))
            await service.answer(spoken)
            await client.until("response.done", number=number)
            deltas = client.of(_DELTA)[before:]
            assert {(e["response_id"], e["item_id"]) for e in deltas} == {(f"resp_{number}", f"item_{number}")}
            assert match(samples_of(outbound_sound(deltas)), samples_of(spoken)).correlation > _LIKENESS
            assert len(outbound_sound(deltas)) < len(spoken) + _SECOND
    last_delta = max(at for at, kind in enumerate(client.types) if kind == _DELTA)
    first_done = [client.types.index(kind) for kind in _DONE_EVENTS]
    second_done = [len(client.types) - 1 - client.types[::-1].index(kind) for kind in _DONE_EVENTS]
    assert min(second_done) > last_delta
    number_of_first = len([e for e in client.of(_DELTA) if e["item_id"] == "item_1"])
    assert client.types[: min(first_done)].count(_DELTA) == number_of_first
    assert client.of("error") == []


async def test_a_commit_waits_for_the_sound_before_it(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """Sound that comes at once is spoken in real time; each commit goes out behind what it commits, in order."""
    first, second = speech_pcm[: 2 * _SECOND], speech_pcm[2 * _SECOND : 3 * _SECOND]
    async with _call(serve_with) as (client, service):
        await _append(client, first)
        await _commit(client)
        await client.send({"type": "response.create"})
        await _append(client, second)
        await _commit(client)
        await _commit(client)
        await service.hear("input_audio_buffer.commit", 3)
        names = [event["type"] for event in service.events]
        commit = "input_audio_buffer.commit"
        assert names == [commit, "response.create", commit, commit]
        begun, _, ended, _ = service.heard_s_at
        heard = service.heard
    assert begun >= 2.0
    assert 0.8 <= ended - begun <= 1.3
    assert match(samples_of(heard), samples_of(first + second)).correlation > _LIKENESS


async def test_a_clear_drops_what_was_not_committed(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """What was committed before it is spoken to its end, and what comes behind it is not lost."""
    first, dropped, last = bytes(_SECOND), speech_pcm[: 3 * _SECOND], speech_pcm[3 * _SECOND : 4 * _SECOND]
    async with _call(serve_with) as (client, service):
        await _append(client, first)
        await _commit(client)
        await _append(client, dropped)
        await client.send({"type": "input_audio_buffer.clear"})
        await _append(client, last)
        await _commit(client)
        await service.hear("input_audio_buffer.commit", 2)
        names = [event["type"].removeprefix("input_audio_buffer.") for event in service.events]
        assert names == ["commit", "clear", "commit"]
        committed, cleared, ended = service.heard_s_at
        heard = service.heard
    assert committed >= 1.0
    assert cleared - committed < 0.2
    assert 0.8 <= ended - cleared <= 1.4
    assert match(samples_of(heard), samples_of(last)).correlation > _LIKENESS


async def test_an_idle_clear_stops_what_is_being_spoken(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """At once, and the service is told."""
    async with _call(serve_with) as (client, service):
        await _append(client, speech_pcm)
        await client.send({"type": "input_audio_buffer.clear"})
        await service.hear("input_audio_buffer.clear")
        await _commit(client)
        await service.hear("input_audio_buffer.commit")
        cleared, committed = service.heard_s_at
    assert committed - cleared < 0.5


async def test_who_speaks_too_far_ahead_is_told(serve_with: ServeWith) -> None:
    """A minute waits to be spoken; what is more is lost, which is said once, and again only after there was room."""
    async with _call(serve_with) as (client, service):
        await _append(client, bytes(70 * _SECOND))
        error = (await client.until("error"))["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "input_audio_too_fast")
        await client.send({"type": "input_audio_buffer.clear"})
        await service.hear("input_audio_buffer.clear")
        assert len(client.of("error")) == 1
        await _append(client, bytes(70 * _SECOND))
        await client.until("error", number=2)
        await client.send({"type": "conversation.item.delete", "item_id": "item_x"})
        await service.hear("conversation.item.delete")
        assert len(client.of("error")) == 2


async def test_a_service_that_hangs_up_in_an_answer(serve_with: ServeWith, short_pcm: bytes) -> None:
    """What it owed is brought to its end behind the sound that came, and another call is placed."""
    async with (
        AiortcService.serving() as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(service.calls[0].answer(short_pcm, is_whole=False))
            await client.until(_DELTA, number=5)
            await service.calls[0].connection.close()
            answering.cancel()
        notice = (await client.until("error"))["error"]
        assert notice["code"] == "upstream_reconnecting"
        [done] = client.of("response.done")
        assert (done["response"]["id"], done["response"]["status"]) == ("resp_1", "failed")
        again = await (await service.call(2)).hear("response.create")
        assert again["event_id"]
        assert not client.closed.is_set()


async def test_a_service_that_hangs_up_between_answers(serve_with: ServeWith, short_pcm: bytes) -> None:
    """The call is over, in good order."""
    async with _call(serve_with) as (client, service):
        await service.answer(short_pcm[:_SECOND])
        await client.until("response.done")
        await service.connection.close()
        assert await client.close_code() == 1000
        assert client.of("error") == []
