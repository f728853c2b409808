"""An upstream that is lost in the middle of a call: what clients hear, and what its successor is told."""

import asyncio
import base64
from typing import Any

import pytest

from bridge.upstream.dialer import RetryPolicy
from tests.engine.talk import AUDIO, silence
from tests.machine import scaled
from tests.upstream.dialled import dialled
from tests.upstream.scripts import (
    ANSWER,
    babble,
    begin_answer,
    begin_turn,
    break_off,
    cut_in_answer,
    expire,
    response,
    shout,
    successor,
)
from tests.upstream.service import Refusal, Service, Visit

QUICK = RetryPolicy(connect_s=scaled(2.0), stall_s=0.3, renew_s=60.0, tries=3)


async def test_a_loss_in_the_middle_of_an_answer() -> None:
    """The answer is brought to its end, clients are told once, and the next upstream answers in its place."""
    async with Service.serving(cut_in_answer, successor) as service, dialled(service) as call:
        await call.until("response.done", 2)
        at = call.said.types.index(AUDIO)
        assert call.said.types[at + 1 :] == [
            "response.output_audio_transcript.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
            "conversation.item.deleted",
            "error",
            "session.updated",
            "response.created",
            "response.done",
        ]
        [written] = call.said.of_type("response.output_audio_transcript.done")
        assert written["transcript"] == "Hello there"
        lost, answered = call.said.of_type("response.done")
        assert (lost["response"]["id"], lost["response"]["status"]) == ("resp_1", "failed")
        assert lost["response"]["status_details"]["error"]["code"] == "upstream_lost"
        assert answered["response"]["id"] == "resp_2"
        [deleted] = call.said.of_type("conversation.item.deleted")
        assert deleted["item_id"] == "item_b"
        [notice] = call.said.of_type("error")
        assert notice["error"]["code"] == "upstream_reconnecting"
        assert [item.id for item in call.said.state.conversation.items()] == ["item_a"]
        told = service.visits[1].events
        assert [event["type"] for event in told] == ["session.update", "conversation.item.create", "response.create"]
        assert told[0]["session"].keys().isdisjoint({"id", "object", "model", "expires_at"})
        assert told[1]["item"]["id"] == "item_a"


async def test_a_loss_between_turns() -> None:
    """Items are told in order under their ids, words for sound; nobody hears them again, and nothing is asked."""

    async def talkative(visit: Visit) -> None:
        await visit.greet(instructions="be brief", voice_of_its_own="yes")
        await begin_turn(visit)
        name = "conversation.item.input_audio_transcription.completed"
        await visit.say(
            name, item_id="item_a", content_index=0, transcript="hi", usage={"type": "duration", "seconds": 1}
        )
        await visit.say("response.created", response=response())
        await visit.say("response.output_item.added", response_id="resp_1", output_index=0, item=ANSWER)
        await visit.say("conversation.item.added", item=ANSWER, previous_item_id="item_a")
        done = {**ANSWER, "status": "completed", "content": [{"type": "output_audio", "transcript": "Hello there"}]}
        await visit.say("response.output_item.done", response_id="resp_1", output_index=0, item=done)
        await visit.say("conversation.item.done", item=done, previous_item_id="item_a")
        await visit.say("response.done", response=response("completed"))
        await visit.hear("conversation.item.create")
        await visit.cut()

    async with Service.serving(talkative, successor) as service, dialled(service) as call:
        await call.until("response.done")
        before = len(call.said.events)
        call.type("and then?", "item_c")
        await call.until("conversation.item.done", 3)
        assert call.said.types[before:] == [
            "error",
            "session.updated",
            "conversation.item.added",
            "conversation.item.done",
        ]
        update, *told = service.visits[1].events
        assert (update["session"]["instructions"], update["session"]["voice_of_its_own"]) == ("be brief", "yes")
        assert [(event["item"]["id"], event.get("previous_item_id")) for event in told] == [
            ("item_a", "root"),
            ("item_b", "item_a"),
            ("item_c", None),
        ]
        assert told[0]["item"]["content"] == [{"type": "input_text", "text": "hi"}]
        assert told[1]["item"]["content"] == [{"type": "output_text", "text": "Hello there"}]
        assert [item.id for item in call.said.state.conversation.items()] == ["item_a", "item_b", "item_c"]


async def test_a_turn_that_is_being_spoken_is_heard_again() -> None:
    """What was not committed is said to the next upstream too, and its times go on from the session's first sound."""

    async def cut_in_turn(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.append")
        await visit.say("input_audio_buffer.speech_started", audio_start_ms=500, item_id="item_a")
        await heard.wait()
        await visit.cut()

    async def listening(visit: Visit) -> None:
        await visit.greet()
        event = await visit.hear("input_audio_buffer.append")
        sounds.append(base64.b64decode(event["audio"]))
        await visit.say("input_audio_buffer.speech_started", audio_start_ms=40, item_id="item_b")
        await visit.until_closed()

    heard = asyncio.Event()
    sounds: list[bytes] = []
    async with Service.serving(cut_in_turn, listening) as service, dialled(service) as call:
        await call.until("session.created")
        call.upstream.receive_caller_audio(silence(4000))
        await call.until("input_audio_buffer.speech_started")
        call.upstream.receive_caller_audio(b"\1\0" * 24 * 500)
        heard.set()
        again = await call.until("input_audio_buffer.speech_started", 2)
        [sound] = sounds
        assert sound.endswith(b"\1\0" * 24 * 500)
        assert again["audio_start_ms"] == 4500 - len(sound) // 48 + 40


async def test_a_spoken_question_without_words_is_told_as_sound() -> None:
    """While the bridge has the sound of a turn that nobody wrote down, the next upstream gets that."""

    async def cut_after_turn(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("input_audio_buffer.append")
        await begin_turn(visit)
        await visit.cut()

    async with Service.serving(cut_after_turn, successor) as service, dialled(service) as call:
        await call.until("session.created")
        call.upstream.receive_caller_audio(b"\2\0" * 24 * 300)
        await call.until("response.done")
        told = service.visits[1].events
        assert [event["type"] for event in told] == ["session.update", "conversation.item.create", "response.create"]
        [part] = told[1]["item"]["content"]
        assert base64.b64decode(part["audio"]) == b"\2\0" * 24 * 300


@pytest.mark.parametrize("fault", [expire, babble, shout, break_off], ids=lambda fault: fault.__name__)
async def test_every_way_to_be_lost(fault: Any) -> None:
    """A session that expires, what is no JSON, what is too long, and half a frame: told once, and dialled anew."""

    async def failing(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("conversation.item.create")
        await fault(visit)

    async with Service.serving(failing, successor) as service, dialled(service) as call:
        await call.until("session.created")
        call.type("hello", "item_a")
        await call.until("conversation.item.done")
        assert call.said.types == [
            "session.created",
            "error",
            "session.updated",
            "conversation.item.added",
            "conversation.item.done",
        ]
        assert call.said.of_type("error")[0]["error"]["code"] == "upstream_reconnecting"


async def test_an_upstream_that_falls_silent() -> None:
    """One that owes an answer and says nothing is replaced, and its successor answers; one that owes none may rest."""

    async def silent(visit: Visit) -> None:
        await visit.greet()
        await visit.until_closed()

    async with (
        Service.serving(silent, successor) as service,
        dialled(service, policy=QUICK) as call,
    ):
        await call.until("session.created")
        call.send("response.create", event_id="event_mine")
        await call.until("response.done")
        assert service.visits[1].events[-1]["event_id"] == "event_mine"
        assert "fell silent" in call.said.of_type("error")[0]["error"]["message"]
        assert service.knocks == 2


async def test_an_upstream_that_is_always_silent() -> None:
    """It is given up after so many tries, for whoever is next."""

    async def silent(visit: Visit) -> None:
        await visit.greet(output_modalities=["text"])
        await visit.until_closed()

    async with (
        Service.serving(silent) as service,
        dialled(service, "local", policy=QUICK, tries=2) as call,
    ):
        await call.until("session.created")
        call.type("anybody?", "item_a")
        call.send("response.create")
        done = await call.until("response.done")
        assert done["response"]["output"][0]["content"][0]["text"] == "You wrote: anybody?"
        assert service.knocks == 2
        assert call.said.types.count("error") == 2


async def test_an_upstream_that_will_not_have_it() -> None:
    """One that closes for what the session is, and not for how it itself is, is not dialled again."""

    async def strict(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("response.create")
        await visit.socket.close(1008, "against our policy")

    async with Service.serving(strict) as service, dialled(service) as call:
        await call.until("session.created")
        call.send("response.create")
        error = await call.until_over()
        assert "1008: against our policy" in error.message
        assert service.knocks == 1


async def test_an_answer_that_was_cancelled_is_not_given_again() -> None:
    """Who stopped an answer does not hear it from the next upstream."""

    async def cut_after_cancel(visit: Visit) -> None:
        await visit.greet()
        await begin_turn(visit)
        await begin_answer(visit)
        await visit.hear("response.cancel")
        await visit.cut()

    async with Service.serving(cut_after_cancel, successor) as service, dialled(service) as call:
        await call.until("response.output_audio_transcript.delta")
        call.send("response.cancel")
        await call.until("session.updated")
        assert [event["type"] for event in service.visits[1].events] == ["session.update", "conversation.item.create"]


async def test_when_nobody_can_take_over() -> None:
    """The call ends with what the last try was answered; what was in progress is brought to its end before."""
    gone = Refusal(403, type="invalid_request_error", code="account_closed", message="No more.")
    async with Service.serving(cut_in_answer, gone) as service, dialled(service) as call:
        error = await call.until_over()
        assert (error.code, error.message) == ("account_closed", "No more.")
        assert call.said.types[-3:] == ["response.done", "conversation.item.deleted", "error"]


async def test_the_engine_takes_over() -> None:
    """The last resort finds the conversation as it is, and answers the question that was open."""

    async def cut_at_once(visit: Visit) -> None:
        await visit.greet(output_modalities=["text"])
        await visit.hear("conversation.item.create")
        await visit.say("conversation.item.added", item=visit.events[-1]["item"], previous_item_id=None)
        await visit.hear("response.create")
        await visit.cut()

    gone = Refusal(403, code="account_closed", message="No more.")
    async with Service.serving(cut_at_once, gone) as service, dialled(service, "local") as call:
        await call.until("session.created")
        call.type("are you there?", "item_a")
        call.send("response.create")
        done = await call.until("response.done")
        assert done["response"]["output"][0]["content"][0]["text"] == "You wrote: are you there?"
        assert call.said.types[2:6] == ["conversation.item.done", "error", "session.updated", "response.created"]


async def test_a_line_is_replaced_before_it_is_too_old() -> None:
    """By plan, between two turns, nobody hears of it; the new line is told everything, and the old one is closed."""

    async def first(visit: Visit) -> None:
        await visit.greet()
        while True:
            event = await visit.hear()
            await visit.say("conversation.item.added", item=event["item"], previous_item_id=None)
            await visit.say("conversation.item.done", item=event["item"], previous_item_id=None)

    async with (
        Service.serving(first, successor) as service,
        dialled(service, policy=QUICK, renew_s=0.1) as call,
    ):
        await call.until("session.created")
        call.type("hello", "item_a")
        await call.until("conversation.item.done")
        second = await service.visit(2)
        await service.visits[0].socket.wait_closed()
        call.upstream.receive_caller_audio(silence(20))
        call.type("still there?", "item_b")
        await call.until("conversation.item.done", 2)
        assert call.said.types == [
            "session.created",
            "conversation.item.added",
            "conversation.item.done",
            "conversation.item.added",
            "conversation.item.done",
        ]
        assert [event["type"] for event in second.events[:2]] == ["session.update", "conversation.item.create"]
