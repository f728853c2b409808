"""Upstreams that are cascades behind a real daemon: chosen by the model, and with fallbacks of every kind."""

from typing import Any

import pytest

from bridge.config import NamedUpstream
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.engine.chat_service import ChatService, Reply, refuse, say
from tests.upstream.scripts import successor
from tests.upstream.service import Refusal, Service

_REFUSED = refuse(401, code="invalid_api_key", message="Wrong key.")


def _cascade(service: ChatService, *models: str, **settings: Any) -> NamedUpstream:
    return NamedUpstream(kind="cascade", llm_url=service.url, models=models, **settings)


async def _ask(client: Any, words: str, number: int = 1) -> dict[str, Any]:
    """Types a question; the response, once it is done."""
    content = [{"type": "input_text", "text": words}]
    await client.send(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
    )
    await client.send({"type": "response.create", "response": {"output_modalities": ["text"]}})
    await client.until("response.done", number=number)
    response: dict[str, Any] = client.of("response.done")[number - 1]["response"]
    return response


def _text(response: dict[str, Any]) -> str:
    [item] = response["output"]
    return str(item["content"][0]["text"])


async def test_models_route_calls_to_different_stacks(serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cascade has its own URL, key, and name of the model; a call without one of these models gets neither."""
    monkeypatch.setenv("FAST_KEY", "sk-fast")
    async with (
        ChatService.serving(say("Fast.")) as fast,
        ChatService.serving(say("Deep.")) as deep,
        serve_with(
            upstreams={
                "fast": _cascade(fast, "quick", llm_key_env="FAST_KEY", llm_model="q-1"),
                "deep": _cascade(deep, "slow", llm_key="sk-deep", llm_temperature=0.5),
            }
        ) as daemon,
    ):
        for model, answer in (("quick", "Fast."), ("slow", "Deep.")):
            async with open_socket(daemon.url, f"model={model}") as client:
                assert _text(await _ask(client, "Hello")) == answer
                [call] = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
                assert call["upstream"]["name"] == {"quick": "fast", "slow": "deep"}[model]
        async with open_socket(daemon.url, "model=other") as client:
            assert _text(await _ask(client, "Hello")) == "You wrote: Hello"
    assert (fast.keys, deep.keys) == (["bearer sk-fast"], ["bearer sk-deep"])
    assert (fast.requests[0]["model"], deep.requests[0]["model"]) == ("q-1", "slow")
    assert deep.requests[0]["temperature"] == 0.5


async def test_a_cascade_falls_back_to_another_one_and_to_the_rules(serve_with: ServeWith) -> None:
    """Its answer is asked of the next, which is told the conversation; the client hears of it by an event."""
    async with (
        ChatService.serving(say("One."), _REFUSED) as first,
        ChatService.serving(say("Two."), _REFUSED) as second,
        serve_with(
            upstream="first",
            upstream_fallback=("second", "local"),
            upstreams={"first": _cascade(first), "second": _cascade(second)},
        ) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        assert _text(await _ask(client, "Hello")) == "One."
        lost = await _ask(client, "And now?", 2)
        assert lost["status"] == "failed"
        await client.until("response.done", number=3)
        assert _text(client.of("response.done")[2]["response"]) == "Two."
        [error] = client.of("error")
        assert error["error"]["code"] == "upstream_reconnecting"
        assert "Wrong key." in error["error"]["message"]
        assert [message["content"] for message in second.requests[0]["messages"]] == ["Hello", "One.", "And now?"]
        await _ask(client, "Third?", 4)
        await client.until("response.done", number=5)
        assert _text(client.of("response.done")[4]["response"]) == "You wrote: Third?"


async def test_a_cascade_falls_back_to_a_service_and_a_service_to_a_cascade(serve_with: ServeWith) -> None:
    """Fallbacks are tried whatever their kind is."""
    async with (
        Service.serving(successor) as service,
        ChatService.serving(_REFUSED) as broken,
        serve_with(
            upstream="broken", upstream_fallback=(service.url,), upstreams={"broken": _cascade(broken)}
        ) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        await _ask(client, "Hello")
        await client.until("response.done", number=2)
        assert client.of("response.done")[1]["response"]["status"] == "completed"
    async with (
        Service.serving(Refusal(403, code="account_closed", message="No more.")) as service,
        ChatService.serving(say("Here.")) as chat,
        serve_with(upstream=service.url, upstream_fallback=("own",), upstreams={"own": _cascade(chat)}) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        assert _text(await _ask(client, "Hello")) == "Here."


async def test_the_last_one_says_what_went_wrong(serve_with: ServeWith) -> None:
    """With nobody behind it, its responses fail with the server's words, and the call goes on."""

    async def half(reply: Reply) -> None:
        await reply.delta(content="Well, ")
        reply.cut()

    refused = refuse(403, code="account_closed", message="No more.")
    async with (
        Service.serving(Refusal(403, code="account_closed", message="No more.")) as service,
        ChatService.serving(refused, half, say("Better.")) as chat,
        serve_with(upstream=service.url, upstream_fallback=("own",), upstreams={"own": _cascade(chat)}) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        assert (await _ask(client, "Hello"))["status_details"]["error"]["message"] == "No more."
        assert (await _ask(client, "Hello?", 2))["status"] == "failed"
        assert _text(await _ask(client, "Hello!", 3)) == "Better."
