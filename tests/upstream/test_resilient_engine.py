"""Lines that are replaced by the engine or by plan, and what waits meanwhile."""

import asyncio
from dataclasses import replace

import pytest

from bridge.errors import BadEvent
from tests.engine.talk import SPOKEN_ANSWER, silence, without_repeats
from tests.machine import scaled
from tests.upstream.dialled import POLICY, dialled
from tests.upstream.service import Refusal, Service, Visit

GONE = Refusal(403, code="account_closed", message="No more.")
UNAVAILABLE = Refusal(503, code="overloaded", message="Later.")


async def test_the_engine_hears_what_the_caller_was_saying(speech_pcm: bytes) -> None:
    """A turn that began on the line that was lost is one turn; its times count from the session's first sound."""

    async def cut_in_turn(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.append")
        await visit.say("input_audio_buffer.speech_started", audio_start_ms=3000, item_id="item_a")
        await spoken.wait()
        visit.socket.transport.abort()

    spoken = asyncio.Event()
    async with Service.serving(cut_in_turn, GONE) as service, dialled(service, "local") as call:
        await call.until("session.created")
        call.upstream.receive_caller_audio(silence(3000))
        await call.until("input_audio_buffer.speech_started")
        for at in range(0, 48 * 2200, 960):
            call.upstream.receive_caller_audio(speech_pcm[at : at + 960])
        spoken.set()
        await call.until("session.updated")
        call.upstream.receive_caller_audio(silence(1000))
        done = await call.until("response.done")
        assert done["response"]["status"] == "completed"
        started = call.said.of_type("input_audio_buffer.speech_started")[-1]["audio_start_ms"]
        stopped = call.said.of_type("input_audio_buffer.speech_stopped")[-1]["audio_end_ms"]
        assert 2500 <= started <= 3500
        assert 4500 <= stopped <= 6200
        at = call.said.types.index("response.created")
        assert without_repeats(call.said.types[at:]) == SPOKEN_ANSWER


async def test_the_engine_answers_a_turn_that_was_only_committed(speech_pcm: bytes) -> None:
    """The item that was promised is there, with its sound, and is answered."""

    async def cut_behind_commit(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.append")
        await visit.say("input_audio_buffer.committed", item_id="item_a", previous_item_id=None)
        await visit.cut()

    async with Service.serving(cut_behind_commit, GONE) as service, dialled(service, "local") as call:
        await call.until("session.created")
        call.upstream.receive_caller_audio(speech_pcm[: 48 * 1000])
        await call.until("response.done")
        added, answer = (event["item"] for event in call.said.of_type("conversation.item.added"))
        assert (added["id"], added["content"][0]["type"]) == ("item_a", "input_audio")
        assert call.said.sounds[answer["id"]] == speech_pcm[: 48 * 1000]


async def test_the_engine_refuses_what_cannot_be() -> None:
    """What waited and makes no sense to it is answered by an error, for its sender."""

    async def cut_at_once(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("conversation.item.delete")
        await visit.cut()

    async with Service.serving(cut_at_once, GONE) as service, dialled(service, "local") as call:
        await call.until("session.created")
        call.send("conversation.item.delete", event_id="event_mine", item_id="item_none")
        refused = await call.until("error", 2)
        assert refused["error"]["event_id"] == "event_mine"
        assert call.upstream.input_format is call.upstream.output_format
        call.type("and now?", "item_a")
        call.send("response.create")
        await call.until("response.done")


async def test_too_much_waits() -> None:
    """While no line is up a client may send so much, and is told when it is more."""
    async with Service.serving(UNAVAILABLE) as service, dialled(service, tries=2) as call:
        for number in range(256):
            call.type("hello", f"item_{number}")
        with pytest.raises(BadEvent) as caught:
            call.type("hello", "item_256")
        assert caught.value.code == "upstream_busy"
        call.upstream.receive_caller_audio(silence(40_000))
        await call.until_over()


async def test_a_renewal_that_fails_is_tried_again() -> None:
    """The line that is up goes on meanwhile, and nobody hears of it."""

    async def old(visit: Visit) -> None:
        await visit.greet()
        await visit.until_closed()

    async def fresh(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("session.update")
        told.set()
        await visit.until_closed()

    told = asyncio.Event()
    async with (
        Service.serving(old, UNAVAILABLE, fresh) as service,
        dialled(service, policy=replace(POLICY, renew_s=0.1)) as call,
    ):
        await call.until("session.created")
        async with asyncio.timeout(scaled(5)):
            await told.wait()
        assert service.knocks == 3
        assert call.said.types == ["session.created"]


async def test_a_renewal_waits_for_an_answer_that_begins_meanwhile() -> None:
    """A line that is ready too late is let go; the answer is not torn."""

    async def old(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("response.create")
        asked.set()
        await visit.until_closed()

    async def slow(visit: Visit) -> None:
        knocked.set()
        await asked.wait()
        await visit.greet()
        await visit.until_closed()

    asked, knocked = asyncio.Event(), asyncio.Event()
    async with (
        Service.serving(old, slow) as service,
        dialled(service, policy=replace(POLICY, renew_s=0.1)) as call,
    ):
        await call.until("session.created")
        async with asyncio.timeout(scaled(5)):
            await knocked.wait()
            call.send("response.create")
            await service.visits[1].socket.wait_closed()
        assert not service.visits[0].socket.close_code
        assert call.said.types == ["session.created"]
