"""Stock clients with responses beside the conversation: a classification or a summary while the answer is spoken."""

import json
from typing import Any

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import outbound_sound
from tests.sdk.stock import Judged, listening, speak, stock_client

_MANUAL: Any = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
_LONG = 20  # a minute, which takes seconds to deliver: the answer is in progress when the cancel comes
_TOPICS = ("mood", "summary", "language")


def _beside(topic: str) -> Any:
    content = [{"type": "input_text", "text": f"{topic}\n" * 20}]
    return {
        "conversation": "none",
        "input": [{"type": "message", "role": "user", "content": content}],
        "output_modalities": ["text"],
        "metadata": {"topic": topic},
    }


async def _ask(url: str, question: bytes) -> tuple[Judged, list[dict[str, Any]]]:
    """A spoken answer with three responses beside it, and a cancel without an id; the responses as they were done."""
    async with stock_client(url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_MANUAL)
            await speak(connection, question)
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            await log.until("response.output_audio.delta")
            for topic in _TOPICS:
                await connection.response.create(response=_beside(topic))
            await log.until("response.created", number=4)
            await connection.response.cancel()
            await log.until("response.done", number=4)
    return log, [event["response"] for event in log.of("response.done")]


def _check(log: Judged, done: list[dict[str, Any]], question: bytes) -> None:
    assert log.of("error") == []
    cancelled = next(response for response in done if response["conversation_id"] is not None)
    assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert 0 < len(outbound_sound(log.events)) < len(question)
    told = {response["metadata"]["topic"]: response for response in done if response is not cancelled}
    assert told.keys() == set(_TOPICS)
    for topic, response in told.items():
        assert response["status"] == "completed"
        [item] = response["output"]
        assert item["content"] == [{"type": "output_text", "text": "You wrote: " + f"{topic}\n" * 20}]
        deltas = [event for event in log.of("response.output_text.delta") if event["response_id"] == response["id"]]
        assert "".join(event["delta"] for event in deltas) == item["content"][0]["text"]
    kept = [event["item"]["id"] for event in log.of("conversation.item.added")]
    assert {item["id"] for response in told.values() for item in response["output"]}.isdisjoint(kept)


async def test_three_beside_an_answer(daemon: Daemon, short_pcm: bytes) -> None:
    """All run at once; the cancel ends the spoken one, and each of the others is told whole."""
    log, done = await _ask(daemon.url, short_pcm * _LONG)
    _check(log, done, short_pcm * _LONG)


async def test_three_beside_an_answer_of_an_upstream(daemon: Daemon, serve_with: ServeWith, short_pcm: bytes) -> None:
    """The same through a bridge that dials the one that answers."""
    async with serve_with(upstream=daemon.url.replace("http", "ws", 1) + "v1/realtime") as bridge:
        log, done = await _ask(bridge.url, short_pcm * _LONG)
    _check(log, done, short_pcm * _LONG)


async def test_one_too_many(daemon: Daemon) -> None:
    """Sixteen run beside the conversation; the next is one error that names the field and the event."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            for number in range(17):
                await connection.response.create(response=_beside("x"), event_id=f"mine_{number}")
            error = (await log.until("error"))["error"]
            assert (error["code"], error["param"]) == ("too_many_active_responses", "response.conversation")
            assert error["event_id"] == "mine_16"
            await log.until("response.done", number=16)
            await connection.response.create(response=_beside("x"))
            await log.until("response.done", number=17)
    assert json.dumps(log.of("error")).count("mine_") == 1
