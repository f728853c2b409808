"""What services do when they fail, and what one does that takes over: scripts for ``Service``."""

import base64
import json
from typing import Any

from tests.engine.talk import silence
from tests.fakes import JsonEvent
from tests.upstream.service import Visit

__all__ = [
    "ANSWER",
    "IDS",
    "QUESTION",
    "babble",
    "begin_answer",
    "begin_turn",
    "break_off",
    "cut_in_answer",
    "expire",
    "response",
    "shout",
    "successor",
]

IDS: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_b", "output_index": 0, "content_index": 0}
ANSWER: dict[str, Any] = {
    "id": "item_b",
    "type": "message",
    "role": "assistant",
    "status": "in_progress",
    "content": [],
}
QUESTION = {"id": "item_a", "type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}]}


def response(status: str = "in_progress", response_id: str = "resp_1") -> JsonEvent:
    body = {"id": response_id, "object": "realtime.response", "status": status, "output": []}
    return {**body, "output_modalities": ["audio"], "conversation_id": "conv_theirs"}


async def begin_turn(visit: Visit) -> None:
    """A caller's turn, as far as the item in which it is kept."""
    await visit.say("input_audio_buffer.speech_started", audio_start_ms=100, item_id="item_a")
    await visit.say("input_audio_buffer.speech_stopped", audio_end_ms=900, item_id="item_a")
    await visit.say("input_audio_buffer.committed", item_id="item_a", previous_item_id=None)
    await visit.say("conversation.item.added", item=QUESTION, previous_item_id=None)
    await visit.say("conversation.item.done", item=QUESTION, previous_item_id=None)


async def begin_answer(visit: Visit) -> None:
    """An answer, as far as its first sound."""
    await visit.say("response.created", response=response())
    await visit.say("response.output_item.added", response_id="resp_1", output_index=0, item=ANSWER)
    await visit.say("conversation.item.added", item=ANSWER, previous_item_id="item_a")
    await visit.say("response.content_part.added", part={"type": "audio", "transcript": ""}, **IDS)
    await visit.say("response.output_audio_transcript.delta", delta="Hello ", **IDS)
    await visit.say("response.output_audio.delta", delta=base64.b64encode(silence(100)).decode(), **IDS)


async def cut_in_answer(visit: Visit) -> None:
    await visit.greet()
    await begin_turn(visit)
    await begin_answer(visit)
    await visit.say("response.output_audio_transcript.delta", delta="there", **IDS)
    await visit.cut()


async def successor(visit: Visit) -> None:
    """Takes what it is told, as a service does."""
    await visit.greet()
    last = None
    while True:
        event = await visit.hear()
        if event["type"] == "session.update":
            await visit.say("session.updated", session={**event["session"], "id": "sess_next", "model": "next"})
        elif event["type"] == "conversation.item.create":
            item = {**event["item"], "object": "realtime.item", "status": "completed"}
            previous, last = event.get("previous_item_id", last), item["id"]
            await visit.say("conversation.item.added", item=item, previous_item_id=previous)
            await visit.say("conversation.item.done", item=item, previous_item_id=previous)
        elif event["type"] == "response.create":
            await visit.say("response.created", response=response(response_id="resp_2"))
            await visit.say("response.done", response=response("completed", "resp_2"))


async def expire(visit: Visit) -> None:
    detail = {"type": "invalid_request_error", "code": "session_expired", "message": "60 minutes", "param": None}
    await visit.say("error", error={**detail, "event_id": None})
    await visit.socket.close(1001, "Your session hit the maximum duration of 60 minutes.")


async def babble(visit: Visit) -> None:
    await visit.socket.send("<html>Bad gateway</html>")
    await visit.until_closed()


async def shout(visit: Visit) -> None:
    await visit.socket.send(json.dumps({"type": "session.updated", "padding": "x" * (17 * 1024 * 1024)}))
    await visit.until_closed()


async def break_off(visit: Visit) -> None:
    visit.socket.transport.write(b"\x81\x7e\x01\x00{")  # the head of a frame of 256 bytes, and the first of them
    visit.socket.transport.close()
