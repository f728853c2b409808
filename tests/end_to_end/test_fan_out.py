"""Many listeners: each gets all of the sound, in order, and one that does not read disturbs nobody."""

import base64
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from bridge.api.socket import SocketSink
from bridge.daemon import Daemon
from bridge.media.convert import SoundEncoder
from bridge.session.session import Session
from bridge.wire.audio import FORMATS
from tests.end_to_end.event_log import inbound_sound, outbound_sound, stream_numbers
from tests.end_to_end.peers import peers
from tests.end_to_end.web import EventSocket, open_socket

pytestmark = pytest.mark.slow

_CALLS = 20
_SPEECH = Path(__file__).parents[1] / "data" / "speech.wav"
_SECOND = bytes(2 * 24 * 1000)
_LONG_TEXT = "x" * 200_000
_ENOUGH = 200  # seconds of sound or long texts: more than kernel, socket and backlog hold together


@dataclass(slots=True)
class _Call:
    """A call, its listeners with their formats, and what its session took in."""

    listeners: list[tuple[str, EventSocket]] = field(default_factory=list)
    produced: bytearray = field(default_factory=bytearray)


def _record(session: Session, call: _Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what the session gets from its peer, as long as it passes it on."""
    receive = session._router.receive_caller_audio

    def receive_and_keep(pcm: bytes) -> None:
        if session.lifetime.state != "closed":
            call.produced += pcm
        receive(pcm)

    monkeypatch.setattr(session._router, "receive_caller_audio", receive_and_keep)


def _formats(number: int) -> list[str]:
    """Two listeners a call: of the same format in one half of the calls, of different ones in the other."""
    names = list(FORMATS)
    return [names[number % 3], names[(number + number % 2) % 3]]


@pytest.mark.timeout(60)
async def test_twenty_peers_and_forty_listeners(
    daemon: Daemon, speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No listener misses an append event or gets one out of order; those of one format get the same bytes."""
    calls: list[_Call] = []
    async with AsyncExitStack() as stack:
        crowd = await stack.enter_async_context(peers(daemon.url, _CALLS, _SPEECH, silence_ms=2000))
        for number, call_id in enumerate(crowd.call_ids):
            call = _Call()
            calls.append(call)
            _record(daemon.registry.find(call_id), call, monkeypatch)
            for name in _formats(number):
                query = f"call_id={call_id}&audio={name}"
                call.listeners.append((name, await stack.enter_async_context(open_socket(daemon.url, query))))
        await crowd.speak()
        daemon.registry.close_all("hangup", code=1000)
        codes = [await listener.close_code() for call in calls for _, listener in call.listeners]
    assert codes == [1000] * 2 * _CALLS
    for call in calls:
        _check(call, speech_pcm)


def _check(call: _Call, speech_pcm: bytes) -> None:
    assert len(call.produced) > len(speech_pcm)
    answers = set()
    for name, listener in call.listeners:
        appends, deltas = listener.of("input_audio_buffer.append"), listener.of("response.output_audio.delta")
        assert stream_numbers(appends) == list(range(1, len(appends) + 1))
        assert stream_numbers(deltas) == list(range(1, len(deltas) + 1))
        encoder = SoundEncoder(FORMATS[name])
        assert inbound_sound(appends) == encoder.push(bytes(call.produced)) + encoder.flush()
        answers.add((name, outbound_sound(deltas)))
    assert len(answers) == len({name for name, _ in call.listeners})


async def _drop_three_seconds(daemon: Daemon) -> tuple[EventSocket, EventSocket, int]:
    """A listener that reads, one that did not for a while, and how many appends of a second both were sent."""
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(open_socket(daemon.url, "model=any"))
        session_id = owner.events[0]["session"]["id"]
        await owner.send(
            {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}}
        )
        await owner.until("session.updated")
        query = f"call_id={session_id}&audio=pcm16"
        healthy, frozen = [await stack.enter_async_context(open_socket(daemon.url, query)) for _ in range(2)]
        session = daemon.registry.find(session_id)
        figures = session.audience.hub.listeners[-1]
        frozen.freeze()
        sent = 0
        while figures.dropped_events < 3 and sent < _ENOUGH:
            sent += 1
            await owner.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(_SECOND).decode()})
            await healthy.until("input_audio_buffer.append", number=sent)
        frozen.thaw()
        await frozen.wait(lambda: frozen.events[-1]["event_id"].endswith(f"_input_pcm16_{sent}"), "last append")
    await session.lifetime.closed.wait()
    return healthy, frozen, sent


async def test_frozen_listener_loses_sound_and_is_told(daemon: Daemon) -> None:
    """It loses the oldest sound, learns at that place how much it was, and nobody else notices."""
    healthy, frozen, sent = await _drop_three_seconds(daemon)
    assert healthy.types == ["session.created", *["input_audio_buffer.append"] * sent]
    assert stream_numbers(healthy.events[1:]) == list(range(1, sent + 1))
    (told,) = frozen.of("bridge.listener.dropped")
    assert (told["events"], told["audio_ms"]) == (3, 3000)
    at = frozen.events.index(told)
    numbers = stream_numbers(frozen.of("input_audio_buffer.append"))
    assert numbers == [*range(1, at), *range(at + 3, sent + 1)]


async def test_what_was_dropped_is_in_the_last_line_of_the_call(daemon: Daemon) -> None:
    """``call.closed`` counts the dropped events of all listeners, also of those that left before."""
    with capture_logs() as log:
        await _drop_three_seconds(daemon)
    assert [line["dropped"] for line in log if line["event"] == "call.closed"] == [3]


async def test_frozen_listener_is_closed_when_control_events_do_not_fit(daemon: Daemon) -> None:
    """Control events are never left out: the listener is closed with 1013 instead, and the others go on."""
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(open_socket(daemon.url, "model=any"))
        session_id = owner.events[0]["session"]["id"]
        healthy, frozen = [
            await stack.enter_async_context(open_socket(daemon.url, f"call_id={session_id}")) for _ in range(2)
        ]
        listeners = daemon.registry.find(session_id).audience.hub.listeners
        frozen.freeze()
        sent = 0
        while len(listeners) == 3 and sent < _ENOUGH:
            sent += 1
            content = [{"type": "input_text", "text": _LONG_TEXT}]
            item = {"type": "message", "role": "user", "content": content}
            await owner.send({"type": "conversation.item.create", "item": item})
            await healthy.until("conversation.item.done", number=sent)
        frozen.thaw()
        assert await frozen.close_code() == 1013
        assert (frozen.connection.close_reason or "").startswith("too slow; last event event_")
        await owner.until("conversation.item.done", number=sent)
        assert len(owner.of("conversation.item.done")) == sent


async def test_the_kernel_keeps_little_for_a_listener(daemon: Daemon) -> None:
    """Unsent bytes wait where they can be counted and dropped, not by the megabyte where nobody sees them."""
    async with open_socket(daemon.url, "model=any") as owner:
        session = daemon.registry.find(owner.events[0]["session"]["id"])
        line = cast(SocketSink, session.audience.hub.listeners[0]._sink)._transport.get_extra_info("socket")
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 64 * 1024
