"""Listeners of a running call: their choices at the door, their caps, and coming back after the line broke."""

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.daemon import Daemon
from bridge.wire.binary import unpack_sound
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled

_SECOND = bytes(2 * 24 * 1000)
_KINDS = ("audio=pcm16", "audio=g711_ulaw&latency=balanced", "audio=pcm16&rate=8000&tracks=input", "audio=none")


@asynccontextmanager
async def _session(daemon: Daemon) -> AsyncIterator[tuple[EventSocket, str]]:
    """A session of its own without turns, so that sound goes through and nothing answers."""
    async with open_socket(daemon.url, "model=any") as owner:
        await owner.send(
            {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}}
        )
        await owner.until("session.updated")
        yield owner, owner.events[0]["session"]["id"]


async def _append(owner: EventSocket, pcm: bytes) -> None:
    await owner.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


async def _say(owner: EventSocket, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await owner.send(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
    )


async def _refusal(daemon: Daemon, query: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(daemon.url, query):
            pass
    response = refused.value.response
    error: dict[str, Any] = json.loads(response.body or b"")["error"]
    return response.status_code, error


@pytest.mark.parametrize(
    ("choices", "param"),
    [
        ("audio=pcm16&rate=22050", "rate"),
        ("audio=pcm16&latency=low&chunk_ms=20", "chunk_ms"),
        ("tracks=input", "tracks"),
        ("events=response.finished", "events"),
        ("audo=pcm16", "audo"),
        ("after=event_of_another_call_1", "after"),
    ],
)
async def test_choice_that_cannot_be(daemon: Daemon, choices: str, param: str) -> None:
    """It is refused before the upgrade, by its name."""
    async with _session(daemon) as (_, session_id):
        status, error = await _refusal(daemon, f"call_id={session_id}&{choices}")
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")


async def test_choices_of_listeners_are_not_for_owners(daemon: Daemon) -> None:
    """A session of its own has its formats in its configuration; control events it may choose."""
    for name in ("rate=8000", "tracks=input", "framing=binary"):
        status, error = await _refusal(daemon, f"model=any&{name}")
        assert (status, error["param"]) == (400, name.partition("=")[0])


async def test_sound_in_binary_messages(daemon: Daemon, speech_pcm: bytes) -> None:
    """What the owner says arrives as it was said, in messages of the chosen length, without base64."""
    async with _session(daemon) as (owner, session_id):
        url = f"{daemon.url.replace('http', 'ws', 1)}v1/realtime"
        query = f"call_id={session_id}&audio=pcm16&framing=binary&chunk_ms=100&tracks=input&events=session"
        async with asyncio.timeout(scaled(10)), connect(f"{url}?{query}", proxy=None) as socket:
            assert json.loads(await socket.recv())["type"] == "session.created"
            await _append(owner, speech_pcm[: len(_SECOND)])
            messages = [unpack_sound(await socket.recv(decode=False)) for _ in range(10)]
    assert b"".join(message.sound for message in messages) == speech_pcm[: len(_SECOND)]
    assert [(message.sequence, message.timestamp) for message in messages] == [(n + 1, 2400 * n) for n in range(10)]


async def test_a_pause_by_the_client(daemon: Daemon) -> None:
    """While it pauses a listener gets nothing; when it goes on, all that it missed."""
    async with _session(daemon) as (owner, session_id), AsyncExitStack() as stack:
        query = f"call_id={session_id}"
        listener, other = [await stack.enter_async_context(open_socket(daemon.url, query)) for _ in range(2)]
        await listener.send({"type": "bridge.flow.pause"})
        await _say(listener, "the first that it does not hear")
        await other.until("conversation.item.done")
        for number in range(20):
            await _say(owner, str(number))
        await other.until("conversation.item.done", number=21)
        assert listener.types == ["session.created"]
        await listener.send({"type": "bridge.flow.resume"})
        await listener.until("conversation.item.done", number=21)
        assert listener.events[1:] == other.events[1:]


async def test_two_controllers_at_once(daemon: Daemon) -> None:
    """What each sends is carried out as a whole: the sound of one is not cut into that of the other."""
    async with _session(daemon) as (owner, session_id), AsyncExitStack() as stack:
        controller = await stack.enter_async_context(open_socket(daemon.url, f"call_id={session_id}"))
        query = f"call_id={session_id}&audio=pcm16&role=observer"
        listener = await stack.enter_async_context(open_socket(daemon.url, query))
        speakers = {1: owner, 2: controller}
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                for value, speaker in speakers.items():
                    group.create_task(_append(speaker, bytes((value, 0)) * 24_000 * 4))
        await listener.until("input_audio_buffer.append", number=40)
    sound = b"".join(base64.b64decode(event["audio"]) for event in listener.of("input_audio_buffer.append"))
    by_second = [set(sound[at : at + len(_SECOND) : 2]) for at in range(0, len(sound), len(_SECOND))]
    assert by_second == [values for first in by_second[::4] for values in [first] * 4]
    assert by_second.count({1}) == by_second.count({2}) == 20


async def test_an_observer_commands_nothing(daemon: Daemon) -> None:
    """Each of its client events is answered by an error event, and nothing else happens."""
    async with _session(daemon) as (owner, session_id):
        async with open_socket(daemon.url, f"call_id={session_id}&role=observer") as observer:
            await _append(observer, _SECOND)
            await _say(observer, "hello")
            await observer.until("error", number=2)
        assert {event["error"]["code"] for event in observer.of("error")} == {"forbidden"}
        assert owner.types == ["session.created", "session.updated"]


async def test_caps(serve_with: ServeWith) -> None:
    """One listener more than a call or a key may have is answered with 429, and there is room when one leaves."""
    async with serve_with(max_listeners_per_call=2, max_listeners_per_key=3) as daemon:
        async with _session(daemon) as (_, first), _session(daemon) as (_, second):
            async with open_socket(daemon.url, f"call_id={first}"), open_socket(daemon.url, f"call_id={second}"):
                async with open_socket(daemon.url, f"call_id={first}"):
                    for call_id, whose in ((first, "This call"), (second, "This key")):
                        status, error = await _refusal(daemon, f"call_id={call_id}")
                        assert (status, error["type"]) == (429, "rate_limit_error")
                        assert error["message"].startswith(whose)
                async with asyncio.timeout(scaled(5)):
                    while True:  # until the daemon has seen the end of the socket
                        with contextlib.suppress(InvalidStatus):
                            async with open_socket(daemon.url, f"call_id={second}"):
                                break


async def test_too_late_to_come_back(serve_with: ServeWith) -> None:
    """Where too much has happened since, the answer is 410 ``resume_gap``."""
    async with serve_with(replay_bytes=2000) as daemon, _session(daemon) as (owner, session_id):
        for number in range(20):
            await _say(owner, str(number))
        await owner.until("conversation.item.done", number=20)
        status, error = await _refusal(daemon, f"call_id={session_id}&after={owner.events[0]['event_id']}")
        assert (status, error["code"], error["param"]) == (410, "resume_gap", "after")
        query = f"call_id={session_id}&after={owner.events[-3]['event_id']}"
        async with connect(f"{daemon.url.replace('http', 'ws', 1)}v1/realtime?{query}", proxy=None) as socket:
            assert [json.loads(await socket.recv()) for _ in range(2)] == owner.events[-2:]


class _Reader:
    """A listener that comes back behind its last event whenever its line breaks, and notes what it gets."""

    def __init__(self, url: str, query: str, news: asyncio.Event) -> None:
        self.had: list[str] = []
        self.lines = 0
        self._url = f"{url.replace('http', 'ws', 1)}v1/realtime?{query}"
        self._news = news
        self._connection: ClientConnection | None = None

    @property
    def is_on(self) -> bool:
        """It is connected and has had something."""
        return self._connection is not None and bool(self.had)

    async def run(self) -> None:
        """Until the call is over."""
        while True:
            after = f"&after={self.had[-1]}" if self.had else ""
            async with connect(self._url + after, proxy=None, compression=None, max_queue=None) as connection:
                self._connection = connection
                self._news.set()
                self.lines += 1
                with contextlib.suppress(ConnectionClosed):
                    async for text in connection:
                        event = json.loads(text)
                        if event["type"] == "bridge.call.closed":
                            return
                        self.had.append(event["event_id"])
                        self._news.set()

    def kill(self) -> None:
        """The line breaks, without a word."""
        assert self._connection is not None
        self._connection.transport.abort()
        self._connection = None


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_two_hundred_lines_break_and_nobody_misses_anything(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """Of 240 listeners of four kinds 200 at random break off while the call goes on; each ends with all of it, once."""
    news = asyncio.Event()
    async with serve_with(replay_bytes=4_000_000) as daemon, _session(daemon) as (owner, session_id):
        query = f"call_id={session_id}&events=!bridge.listener"
        readers = [_Reader(daemon.url, f"{query}&{_KINDS[number % 4]}", news) for number in range(240)]
        steady = [_Reader(daemon.url, f"{query}&{kind}", news) for kind in _KINDS]
        everyone = [*readers, *steady]

        async def until_all_are_on() -> None:
            while not all(reader.is_on for reader in everyone):
                news.clear()
                await news.wait()

        async with asyncio.timeout(scaled(100)), asyncio.TaskGroup() as group:
            for reader in everyone:
                group.create_task(reader.run())
            await until_all_are_on()
            for number, victim in enumerate(random.Random(6).sample(readers, 200), 1):
                start = 960 * number % (len(speech_pcm) - 960)
                await _append(owner, speech_pcm[start : start + 960])
                victim.kill()
                await _say(owner, str(number))
                await owner.until("conversation.item.done", number=number)
            await until_all_are_on()
            daemon.registry.find(session_id).close("hangup")
    assert sum(reader.lines == 2 for reader in readers) == 200
    for number, reader in enumerate(readers):
        told, *events = steady[number % 4].had
        assert len(events) >= 400
        assert reader.had[1:] == events, told
