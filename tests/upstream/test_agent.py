"""The queue in which agents wait for calls and calls for agents, and what an agent hears and may say."""

import asyncio
import base64
import json
from typing import Any

import pytest

from bridge.errors import OverLimit, UpstreamError
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.state import SessionState
from bridge.upstream.agent import AgentConnection, AgentLine, AgentQueue
from bridge.upstream.line import Line
from bridge.wire.server_events import Body
from bridge.wire.sessions import AudioConfig, AudioInput, PcmuFormat, SessionConfig, default_session
from tests.fakes import FakeSink

PART = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}


class Owner:
    """Who is told what comes over the line."""

    def __init__(self) -> None:
        self.events: list[Body] = []
        self.sounds: list[tuple[Part, bytes]] = []

    def received(self, line: Line, body: Body) -> None:
        self.events.append(body)

    def received_audio(self, line: Line, part: Part, sound: bytes) -> None:
        self.sounds.append((part, sound))

    def passed_audio(self, line: Line) -> None:
        raise AssertionError("an agent's sound comes in events")


class Scene:
    """A queue, and calls that want an agent."""

    def __init__(self) -> None:
        self.agents = AgentQueue(Limits())
        self.owner = Owner()
        self.state = SessionState(default_session(session_id="sess_1", model="m", expires_at=0))

    def attach(self, call_id: str | None = None) -> tuple[AgentConnection, FakeSink]:
        sink = FakeSink()
        return self.agents.attach(sink, call_id), sink

    async def line(self, call_id: str = "rtc_1", timeout_s: float = 1.0) -> AgentLine:
        line = AgentLine(self.agents, call_id, timeout_s=timeout_s)
        await line.open(self.owner, self.state)
        return line


async def test_whoever_comes_first_waits() -> None:
    """An agent for the next call, a call for the next agent; both begin with the session."""
    scene = Scene()
    _, early = scene.attach()
    await scene.line()
    assert early.types == ["session.created"]
    assert [event["type"] for event in scene.owner.events] == ["session.created"]
    waiting = asyncio.ensure_future(scene.line("rtc_2"))
    await asyncio.sleep(0)
    _, late = scene.attach()
    await waiting
    assert late.events[0]["session"]["id"] == "sess_1"
    assert scene.agents.waiting == 0


async def test_an_agent_that_comes_at_the_last_moment_has_the_call() -> None:
    """Between its coming and the call's next step the time may run out; neither is left alone for that."""
    scene = Scene()
    waiting = asyncio.ensure_future(scene.line(timeout_s=0))
    asyncio.get_running_loop().call_soon(scene.attach)
    await waiting
    assert [event["type"] for event in scene.owner.events] == ["session.created"]


async def test_an_agent_may_come_for_one_call() -> None:
    """It is not given to another one, and calls that want any agent pass it by."""
    scene = Scene()
    _, chosen = scene.attach("rtc_9")
    _, anyones = scene.attach()
    await scene.line("rtc_1")
    assert (chosen.types, anyones.types) == ([], ["session.created"])
    await scene.line("rtc_9")
    assert chosen.types == ["session.created"]


async def test_nobody_comes() -> None:
    """After the time that is set the call is told how an agent would come; none is waited for any more."""
    scene = Scene()
    with pytest.raises(UpstreamError, match="role=agent") as caught:
        await scene.line(timeout_s=0.01)
    assert (caught.value.code, caught.value.is_transient) == ("no_agent", False)
    _, late = scene.attach()
    assert (late.types, scene.agents.waiting) == ([], 1)


async def test_what_an_agent_hears() -> None:
    """The clients' events as they said them, and the caller's sound in the session's format."""
    scene = Scene()
    _, sink = scene.attach()
    line = await scene.line()
    line.send_client_event({"type": "response.create", "event_id": "event_mine", "response": {"new": 1}})
    audio = AudioConfig(input=AudioInput(format=PcmuFormat()))
    scene.state.config = scene.state.updated(SessionConfig(audio=audio))
    line.send_audio(b"\xff" * 160)
    _, create, append = sink.events
    assert create == {"type": "response.create", "event_id": "event_mine", "response": {"new": 1}}
    assert (append["type"], base64.b64decode(append["audio"])) == ("input_audio_buffer.append", b"\xff" * 160)
    assert append["event_id"].startswith("event_")


async def test_what_an_agent_says() -> None:
    """Events as they are, sound with its part."""
    scene = Scene()
    agent, _ = scene.attach()
    await scene.line()
    agent.receive_agent_text(json.dumps({"type": "response.invented", "field": 1}))
    delta = base64.b64encode(bytes(960)).decode()
    agent.receive_agent_text(json.dumps({"type": "response.output_audio.delta", **PART, "delta": delta}))
    assert scene.owner.events[-1] == {"type": "response.invented", "field": 1}
    assert scene.owner.sounds == [(Part("resp_1", "item_1", 0, 0), bytes(960))]


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("not JSON", None),
        ({"no": "type"}, None),
        ({"type": "response.output_audio.delta", "delta": "AAAA"}, "item_id"),
        ({"type": "response.output_audio.delta", **PART, "delta": "!"}, "delta"),
    ],
)
async def test_what_an_agent_says_wrong(said: Any, param: str | None) -> None:
    """It is answered by an error that names the field; the call goes on."""
    scene = Scene()
    agent, sink = scene.attach()
    await scene.line()
    agent.receive_agent_text(said if isinstance(said, str) else json.dumps(said))
    [error] = sink.of_type("error")
    assert error["error"]["param"] == param
    assert len(scene.owner.events) == 1
    assert scene.owner.sounds == []
    agent.receive_agent_text(json.dumps({"type": "response.created"}))
    assert len(scene.owner.events) == 2


async def test_an_agents_delta_may_end_in_the_middle_of_a_sample() -> None:
    """The rest of it comes with the next delta of the same part, whatever is said between them."""
    scene = Scene()
    agent, sink = scene.attach()
    await scene.line()
    for item_id, sound in (
        ("item_1", b"\x01"),
        ("item_1", b"\x02\x03"),
        ("item_2", b"\x11\x12"),
        ("item_1", b"\x04\x05"),
    ):
        delta = base64.b64encode(sound).decode()
        agent.receive_agent_text(
            json.dumps({"type": "response.output_audio.delta", **PART, "item_id": item_id, "delta": delta})
        )
    assert [(part.item_id, sound) for part, sound in scene.owner.sounds] == [
        ("item_1", b"\x01\x02"),
        ("item_2", b"\x11\x12"),
        ("item_1", b"\x03\x04"),
    ]
    assert sink.of_type("error") == []


async def test_an_agent_that_says_nothing_but_garbage() -> None:
    """Each message is answered by an error; twenty in a row close the socket, an event between them does not."""
    scene = Scene()
    agent, sink = scene.attach()
    await scene.line()
    for count in (19, 19):
        for number in range(count):
            if number % 2:
                agent.refuse_binary()
            else:
                agent.receive_agent_text("not JSON")
        agent.receive_agent_text(json.dumps({"type": "response.created"}))
    assert (len(sink.of_type("error")), sink.closed) == (38, None)
    for _ in range(20):
        agent.refuse_binary()
    assert len(sink.of_type("error")) == 58
    assert sink.closed == (1003, "events must be JSON text")


async def test_an_agent_that_speaks_too_early() -> None:
    """Before there is a call there is nobody to speak to."""
    agent, sink = Scene().attach()
    agent.receive_agent_text(json.dumps({"type": "response.created"}))
    assert "no call yet" in sink.of_type("error")[0]["error"]["message"]


async def test_the_end_of_either() -> None:
    """An agent that leaves is lost to its call, which may find another; a call that ends closes its agent's socket."""
    scene = Scene()
    agent, _ = scene.attach()
    line = await scene.line()
    agent.detach()
    error = await line.run()
    assert error is not None
    assert (error.code, error.is_transient) == ("agent_lost", True)
    _, sink = scene.attach()
    other = await scene.line()
    await other.aclose()
    await other.aclose()
    assert await other.run() is None
    assert sink.closed == (1000, "call ended")
    waiting, _ = scene.attach()
    waiting.detach()
    assert scene.agents.waiting == 0


async def test_the_lobby_is_bounded() -> None:
    """One more agent than it holds is refused."""
    scene = Scene()
    for _ in range(1000):
        scene.agents.require_room()
        scene.attach()
    with pytest.raises(OverLimit, match="1000 agents"):
        scene.agents.require_room()
