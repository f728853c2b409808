"""Servers that nobody here wrote do strange things: the check survives each, in good time, and says what it was."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bridge.client.check.player import Mismatch, Player, SessionOpenings
from bridge.client.check.runner import Outcome, chosen, run
from bridge.client.check.target import CheckTarget
from bridge.client.sound import PHRASE, read_sound
from tests.machine import scaled

pytestmark = [pytest.mark.slow]

Talk = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def _server(talk: Talk) -> AsyncIterator[str]:
    """The URL of a WebSocket server that talks so on each connection."""
    async with serve(talk, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1"


async def _checked(url: str, *rows: str) -> dict[str, Outcome]:
    target = CheckTarget(url)
    outcomes = await run(target, chosen(target, rows), read_sound(PHRASE))
    return {outcome.id: outcome for outcome in outcomes}


async def test_a_server_that_does_not_greet_is_asked_all_the_same() -> None:
    """The wait for session.created is long once; later rows tell of what they are for."""

    async def talk(socket: ServerConnection) -> None:
        async for text in socket:
            event = json.loads(text)
            if event["type"] == "session.update":
                session = {"id": "sess_1", **event["session"]}
                await socket.send(json.dumps({"type": "session.updated", "event_id": "e", "session": session}))

    async with _server(talk) as url:
        began = time.monotonic()
        found = await _checked(url, "session.update", "session.text_only", "session.turn_detection_off")
    assert found["session.update"].verdict == "fail"
    assert "session.created did not come" in found["session.update"].why
    assert found["session.text_only"].verdict == "pass"
    assert found["session.turn_detection_off"].verdict == "pass"
    assert time.monotonic() - began < scaled(35)  # one long wait, not three


async def test_a_server_that_opens_nothing_is_not_tried_for_ever() -> None:
    """After three rows without a session the others are not run, and say why."""

    async def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(403, "no")

    async with serve(lambda socket: asyncio.sleep(0), "127.0.0.1", 0, process_request=refuse) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1"
        found = await _checked(url, "session")
    verdicts = [outcome.verdict for outcome in found.values()]
    assert verdicts[:3] == ["fail", "fail", "fail"]
    assert set(verdicts[3:]) == {"not_run"}
    assert {outcome.why for outcome in found.values() if outcome.verdict == "not_run"} == {
        "no session could be opened in the rows before it"
    }


async def test_headers_go_with_every_connection() -> None:
    """A gateway learns from them which server is meant."""
    seen: list[str | None] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.append(socket.request.headers.get("x-gateway-provider"))
        await socket.send(json.dumps({"type": "session.created", "event_id": "e", "session": {"id": "sess_1"}}))
        async for _ in socket:
            pass

    async with _server(talk) as url:
        target = CheckTarget(url, extra_headers={"x-gateway-provider": "openai"})
        [row] = chosen(target, ["limits.ping"])
        await Player(target, row, b"").play()
    assert seen == ["openai"]


async def test_a_server_that_closes_at_once_fails_at_once() -> None:
    """With the close code, and without waiting for what cannot come."""

    async def talk(socket: ServerConnection) -> None:
        await socket.close(1008, "no")

    async with _server(talk) as url:
        target = CheckTarget(url)
        [row] = chosen(target, ["session.update"])
        began = time.monotonic()
        with pytest.raises(Mismatch, match="1008"):
            await Player(target, row, b"", SessionOpenings()).play()
    assert time.monotonic() - began < scaled(5)


async def test_a_server_that_is_full_for_a_moment_is_asked_again() -> None:
    """It may still be clearing up behind the row before; that is no fault of what the row is about."""
    sockets = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal sockets
        sockets += 1
        if sockets == 1:
            error = {"type": "session_limit_reached", "code": None, "message": "All slots are in use."}
            await socket.send(json.dumps({"type": "error", "event_id": "e", "error": error}))
            await socket.close(1008)
            return
        await socket.send(json.dumps({"type": "session.created", "event_id": "e", "session": {"id": "sess_1"}}))
        async for _ in socket:
            pass

    async with _server(talk) as url:
        found = await _checked(url, "limits.ping")
    assert found["limits.ping"].verdict == "pass"
    assert sockets == 2


async def test_another_name_of_an_event_fails_its_own_row_alone() -> None:
    """Rows that only need an item go on with beta's name of what tells of it."""

    async def talk(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "session.created", "event_id": "e", "session": {"id": "sess_1"}}))
        async for text in socket:
            event = json.loads(text)
            item = event.get("item") or {"id": event["item_id"], "content": [{"text": "Hello."}], "type": "message"}
            kind = {"create": "created", "retrieve": "retrieved"}[event["type"].rpartition(".")[2]]
            await socket.send(json.dumps({"type": f"conversation.item.{kind}", "event_id": "e", "item": item}))

    async with _server(talk) as url:
        found = await _checked(url, "items.retrieve", "items.id_made")
    assert found["items.retrieve"].verdict == "pass"
    assert found["items.id_made"].verdict == "fail"
    assert "beta's name" in found["events.conversation.item.created"].why
