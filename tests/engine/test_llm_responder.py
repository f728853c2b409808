"""The engine with a language model behind a URL for a mind: asked, heard, interrupted, and what goes wrong."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.engine.hearing import HeardTurn
from bridge.engine.llm import ChatServer
from bridge.engine.llm_responder import LlmResponder
from bridge.engine.local import Local
from bridge.engine.pieces import Pieces
from tests.engine.chat_service import ChatService, Reply, Script, call_function, refuse, say
from tests.engine.talk import AUDIO, MS, SPOKEN_ANSWER, WRITTEN_ANSWER, Talk, silence, without_repeats
from tests.machine import scaled

_TEXT: dict[str, Any] = {"output_modalities": ["text"]}
_MANUAL: dict[str, Any] = {"audio": {"input": {"turn_detection": None}}}
_TOOLS = [
    {"type": "function", "name": "weather", "description": "Of a city.", "parameters": {"type": "object"}},
    {"type": "function", "name": "clock"},
]
_LIMIT_S = scaled(20.0)


class Senses:
    """Ears that hear the same words in any sound, and a voice that speaks 100 ms a word."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        return _done(HeardTurn("What is the weather?", is_speech=True))

    def begin_recognition(self, *, language: str | None = None) -> None:
        """Hears whole stretches only."""

    def speak_sentence(self, sentence: str, *, speed: float, voice: object, log: object) -> Pieces[bytes]:
        self.said.append(sentence)
        return Pieces.of(_done(b"\x01\x01" * (len(sentence.split()) * 100 * MS // 2)))

    def can_speak(self, text: str) -> bool:
        return True


def _done(result: Any) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


@asynccontextmanager
async def _meeting(
    *scripts: Script, senses: Senses | Local | None = None, **settings: Any
) -> AsyncIterator[tuple[Talk, ChatService]]:
    """A conversation whose language model follows the scripts; session settings by ``session``."""
    session = settings.pop("session", {})
    async with (
        ChatService.serving(*scripts) as service,
        ChatServer(service.url, **{"timeout_s": scaled(5.0), **settings}) as server,
    ):
        talk = Talk(LlmResponder(server, ears=senses, voice=senses), **session)
        try:
            async with asyncio.timeout(_LIMIT_S):
                yield talk, service
        finally:
            await talk.engine.aclose()


async def _ask(talk: Talk, words: str, count: int = 1, **response: Any) -> dict[str, Any]:
    talk.type(words)
    talk.send("response.create", **({"response": response} if response else {}))
    return await talk.answer(count)


def _text(response: dict[str, Any]) -> str:
    [item] = response["output"]
    [part] = item["content"]
    return str(part.get("text", part.get("transcript")))


async def test_a_written_answer_streams() -> None:
    """It is asked with the instructions and what was said; each piece is a delta, and usage is the server's own."""
    session = {**_TEXT, "instructions": "Be brief.", "max_output_tokens": 50}
    async with _meeting(say("Good ", "day."), session=session, key="sk-1", model="m-1", temperature=0.5) as (
        talk,
        service,
    ):
        response = await _ask(talk, "Hello")
        assert without_repeats(talk.said.types)[-len(WRITTEN_ANSWER) :] == WRITTEN_ANSWER
        assert "".join(event["delta"] for event in talk.said.of_type("response.output_text.delta")) == "Good day."
        assert (_text(response), response["status"]) == ("Good day.", "completed")
        assert service.requests == [
            {
                "model": "m-1",
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.5,
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
                "max_tokens": 50,
            }
        ]
        assert service.keys == ["bearer sk-1"]
        usage = response["usage"]
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (40, 7, 47)
        assert usage["input_token_details"]["cached_tokens"] == 8


async def test_sentences_are_spoken_as_they_come() -> None:
    """The first one sounds while the model still thinks of the second."""
    second = asyncio.Event()

    async def slow(reply: Reply) -> None:
        await reply.delta(content="It is sunny. It")
        await second.wait()
        await reply.delta(content=" is warm.")
        await reply.end()

    async with _meeting(slow, senses=Senses()) as (talk, _):
        talk.type("Hello")
        talk.send("response.create")
        await talk.said.until(AUDIO, 2)
        assert [e["delta"] for e in talk.said.of_type("response.output_audio_transcript.delta")] == ["It is sunny. "]
        second.set()
        response = await talk.answer()
        assert _text(response) == "It is sunny. It is warm."
        assert without_repeats([t for t in talk.said.types if t != AUDIO])[-12:] == [
            t for t in SPOKEN_ANSWER if t != AUDIO
        ]
        assert len(talk.said.sounds[response["output"][0]["id"]]) == 600 * MS


async def test_what_has_no_sound_is_not_asked_of_the_voice() -> None:
    """White space and pictures are in the transcript alone, which is whole."""
    senses = Senses()
    async with _meeting(say("\n\n", "Done.\n", "👍\n", "Bye."), senses=senses) as (talk, _):
        response = await _ask(talk, "Hello")
        assert _text(response) == "\n\nDone.\n👍\nBye."
        assert [sentence.strip() for sentence in senses.said] == ["Done.", "Bye."]


async def test_a_spoken_turn_is_asked_by_its_words(speech_pcm: bytes) -> None:
    """What the ears understood is what the model is told; later it is told its own answer too."""
    async with _meeting(say("Sunny."), senses=Senses(), session=_MANUAL) as (talk, service):
        talk.speak(speech_pcm[: 1800 * MS])
        talk.send("input_audio_buffer.commit")
        talk.send("response.create")
        await talk.answer()
        await _ask(talk, "Thanks", 2)
        assert service.requests[1]["messages"] == [
            {"role": "user", "content": "What is the weather?"},
            {"role": "assistant", "content": "Sunny."},
            {"role": "user", "content": "Thanks"},
        ]


async def test_functions_are_called_side_by_side() -> None:
    """Words first, then each call as an item; results go back behind their calls, whatever came between."""
    calls = call_function(("c1", "weather", '{"city":"Oslo"}'), ("c2", "clock", "{}"), words="One moment.")
    session = {**_TEXT, "tools": _TOOLS, "tool_choice": "required", "parallel_tool_calls": True}
    async with _meeting(calls, say("Sunny."), session=session) as (talk, service):
        message, weather, clock = (await _ask(talk, "Weather and time?"))["output"]
        assert message["content"][0]["text"] == "One moment."
        assert (weather["call_id"], weather["name"], weather["arguments"]) == ("c1", "weather", '{"city":"Oslo"}')
        assert (clock["call_id"], clock["name"], clock["arguments"]) == ("c2", "clock", "{}")
        done = talk.said.of_type("response.output_item.done")
        assert [event["output_index"] for event in done] == [0, 1, 2]
        first = service.requests[0]
        assert first["tool_choice"] == "required"
        assert first["parallel_tool_calls"] is True
        assert [tool["function"]["name"] for tool in first["tools"]] == ["weather", "clock"]
        talk.type("Hurry!")
        for call_id in ("c2", "c1"):
            output = {"type": "function_call_output", "call_id": call_id, "output": f"of {call_id}"}
            talk.send("conversation.item.create", item=output)
        talk.send("response.create", response={"tool_choice": "none"})
        assert _text(await talk.answer(2)) == "Sunny."
        asked = service.requests[1]
        assert "tools" not in asked
        said, turn, *results, hurry = asked["messages"]
        assert said["content"] == "Weather and time?"
        assert (turn["content"], [call["id"] for call in turn["tool_calls"]]) == ("One moment.", ["c1", "c2"])
        assert [(result["tool_call_id"], result["content"]) for result in results] == [("c1", "of c1"), ("c2", "of c2")]
        assert hurry == {"role": "user", "content": "Hurry!"}


async def test_one_function_is_chosen() -> None:
    """By its name."""
    session = {**_TEXT, "tools": _TOOLS, "tool_choice": {"type": "function", "name": "clock"}}
    async with _meeting(call_function(("c1", "clock", "{}")), session=session) as (talk, service):
        await _ask(talk, "Time?")
        assert service.requests[0]["tool_choice"] == {"type": "function", "function": {"name": "clock"}}


async def test_a_picture_is_shown() -> None:
    """With its detail, beside the words."""
    url = "data:image/png;base64,AAAA"
    async with _meeting(say("A cat."), session=_TEXT) as (talk, service):
        content = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": url, "detail": "low"},
        ]
        item = {"type": "message", "role": "user", "content": content}
        talk.send("conversation.item.create", item=item)
        talk.send("response.create", response={"instructions": "Look."})
        await talk.answer()
        assert service.requests[0]["messages"] == [
            {"role": "system", "content": "Look."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
                ],
            },
        ]


async def test_an_answer_that_is_too_long_says_so() -> None:
    """``finish_reason`` length makes it incomplete; what there is of it is kept."""
    async with _meeting(say("Once upon", finish="length"), session=_TEXT) as (talk, _):
        response = await _ask(talk, "A story")
        assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
        assert (_text(response), response["output"][0]["status"]) == ("Once upon", "incomplete")


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_nobody_wants_to_hear_more(how: str) -> None:
    """A cancel and the end of the call end the request as well: the server is not left to think for nobody."""

    async def endless(reply: Reply) -> None:
        await reply.delta(content="Well. ")
        await reply.gone.wait()

    async with _meeting(endless, session=_TEXT) as (talk, service):
        talk.type("Hello")
        talk.send("response.create")
        await talk.said.until("response.output_text.delta")
        if how == "cancel":
            talk.send("response.cancel")
            assert (await talk.answer())["status"] == "cancelled"
        else:
            await talk.engine.aclose()
        reply = await service.until_asked(1)
        await reply.gone.wait()


async def test_a_caller_who_interrupts_is_remembered_to_have_heard_what_they_heard() -> None:
    """Of an answer that was cut, the model is told the words before the cut, in whole words."""
    answer = say("One two three. ", "Four five six. ", "Seven.")
    async with _meeting(answer, say("Right."), senses=Senses()) as (talk, service):
        response = await _ask(talk, "Count")
        item_id = response["output"][0]["id"]
        talk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=510)
        await _ask(talk, "Stop", 2)
        assert service.requests[1]["messages"][1] == {"role": "assistant", "content": "One two three. Four five"}
        talk.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0)
        await _ask(talk, "Again", 3)
        roles = [message["role"] for message in service.requests[2]["messages"]]
        assert roles == ["user", "user", "assistant", "user"]


async def test_what_passes_is_tried_again() -> None:
    """A server that is busy or broken for a moment costs time, and no answer."""
    async with _meeting(refuse(503), refuse(429, "Retry-After: 0"), say("Here."), session=_TEXT) as (talk, service):
        assert _text(await _ask(talk, "Hello")) == "Here."
        assert len(service.requests) == 3


async def _garbage(reply: Reply) -> None:
    await reply.stream(b"data: {]\n\n")


async def _half(reply: Reply) -> None:
    await reply.delta(content="Well, ")
    reply.cut()


async def _ends_early(reply: Reply) -> None:
    await reply.delta(content="Well, ")
    await reply.stream(b": that is all\n\n")
    reply.end_stream()


async def _error_in_stream(reply: Reply) -> None:
    await reply.stream(b'data: {"error": {"message": "Out of memory.", "code": "oom", "type": "server_error"}}\n\n')


async def _silent(reply: Reply) -> None:
    await reply.gone.wait()


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        (refuse(401, code="invalid_api_key", message="Wrong key."), "invalid_api_key", "Wrong key."),
        (refuse(500), "upstream_http_500", "500"),
        (refuse(429, "Retry-After: 60", message="Slow down."), "upstream_http_429", "Slow down."),
        (_garbage, "upstream_protocol", "JSON"),
        (_half, "llm_unreachable", "cannot be reached"),
        (_ends_early, "llm_broke_off", "stopped in the middle"),
        (_error_in_stream, "oom", "Out of memory."),
        (_silent, "llm_unreachable", "cannot be reached"),
    ],
)
async def test_what_goes_wrong_is_said(script: Script, code: str, message: str) -> None:
    """The response fails with the server's own words if it has any, and the next one may do better."""
    async with _meeting(script, session=_TEXT, tries=1, timeout_s=scaled(0.3)) as (talk, service):
        response = await _ask(talk, "Hello")
        error = response["status_details"]["error"]
        assert (response["status"], error["code"]) == ("failed", code)
        assert message in error["message"]
        service.answer_by(say("Better."))
        assert _text(await _ask(talk, "And now?", 2)) == "Better."


async def test_nobody_there() -> None:
    """A port on which nothing listens."""
    async with ChatServer("http://127.0.0.1:9/v1", tries=1, timeout_s=scaled(2.0)) as server:
        talk = Talk(LlmResponder(server, ears=None, voice=None), **_TEXT)
        response = await _ask(talk, "Hello")
        assert response["status_details"]["error"]["code"] == "llm_unreachable"


async def test_a_server_that_does_not_stream() -> None:
    """A whole answer is taken as one piece, calls and usage as well."""

    async def whole(reply: Reply) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        message = {"role": "assistant", "content": "Wait.", "tool_calls": [call]}
        body = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3}}
        await reply.send(200, json.dumps(body).encode(), "Content-Type: application/json")

    async with _meeting(whole, session={**_TEXT, "tools": _TOOLS}) as (talk, _):
        response = await _ask(talk, "Time?")
        assert [item["type"] for item in response["output"]] == ["message", "function_call"]
        assert response["usage"]["input_tokens"] == 3


async def test_without_ears_and_voice() -> None:
    """What was spoken is told as such, and the answer is text."""
    async with _meeting(say("Pardon?"), session=_MANUAL) as (talk, service):
        talk.speak(silence(500))
        talk.send("input_audio_buffer.commit")
        talk.send("response.create")
        response = await talk.answer()
        assert response["output"][0]["content"][0] == {"type": "output_text", "text": "Pardon?"}
        assert "not understood" in service.requests[0]["messages"][0]["content"]


async def test_an_answer_has_a_deadline() -> None:
    """However often a word of it comes, it does not go on for ever."""

    async def dawdle(reply: Reply) -> None:
        with contextlib.suppress(OSError):
            while not reply.gone.is_set():
                await reply.delta(content="bla ")
                await asyncio.sleep(0.05)

    async with _meeting(dawdle, session=_TEXT, timeout_s=scaled(0.5), longest_s=scaled(1.0)) as (talk, _):
        response = await _ask(talk, "Hello")
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "upstream_timeout"
