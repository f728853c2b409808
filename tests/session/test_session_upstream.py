"""A session whose upstream takes its time: who waits for it, and whom its answers are for."""

import json

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.session.state import SessionState
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16
from bridge.wire.choices import Choices
from bridge.wire.client_events import ClientMessage
from bridge.wire.items import Message, OutputText
from bridge.wire.sessions import default_session
from bridge.wire.stats import WEBSOCKET, ListenerRole
from tests.fakes import CONTEXT, FakeClock, FakeSink, FakeUpstream, JsonEvent


class SlowUpstream(FakeUpstream):
    """Says ``session.created`` when the test lets it."""

    def start(self, downstream: object, state: SessionState) -> None:
        self.state = state

    def receive_event(self, message: ClientMessage) -> None:
        self.events.append(message.known)


class Scene:
    """A session that waits for its upstream."""

    def __init__(self) -> None:
        self.upstream = SlowUpstream()
        info = CallInfo(CONTEXT, transport=WEBSOCKET, model="m", started_at=0.0)
        self.session = Session(
            info,
            self.upstream,
            limits=Limits(),
            max_listeners=9,
            on_closed=lambda session: None,
            clock=FakeClock(),
        )
        self.session.start(default_session(session_id="sess_1", model="m", expires_at=0))

    def attach(self, role: str = "controller") -> tuple[Listener, FakeSink]:
        sink = FakeSink()
        audio = PCM16 if role == "controller" else None
        return self.session.audience.attach(sink, role=ListenerRole(role), choices=Choices(audio=audio)), sink

    def go_live(self) -> None:
        self.session.deliver_event(server.SessionCreated(session=self.upstream.state.config))

    def send(self, listener: Listener, event: JsonEvent) -> str:
        """Sends; the id under which the upstream knows it."""
        self.session.receive_client_text(listener, json.dumps(event))
        return str(self.upstream.events[-1].event_id)


def test_who_comes_early_waits() -> None:
    """Before the upstream answers nobody hears anything; then everyone hears ``session.created``, and first."""
    scene = Scene()
    sinks = [scene.attach(role)[1] for role in ("owner", "controller")]
    gone, gone_sink = scene.attach()
    scene.session.detach(gone)
    assert [sink.types for sink in sinks] == [[], []]
    scene.go_live()
    scene.session.deliver_audio(Part("resp_1", "item_1", 0, 0), bytes(960))
    for sink in sinks:
        assert sink.types == ["session.created", "response.output_audio.delta"]
    assert gone_sink.types == []


def test_a_call_that_ends_before_its_upstream_comes() -> None:
    """Who waited is closed with it, and is left waiting for nothing."""
    scene = Scene()
    sinks = [scene.attach(role)[1] for role in ("owner", "controller")]
    scene.session.close("hangup")
    assert [sink.closed for sink in sinks] == [(1000, "hangup")] * 2
    scene.go_live()
    assert [sink.sent_when_closed for sink in sinks] == [0, 0]


def test_an_upstream_that_never_comes() -> None:
    """Who waited for it is told why it was in vain, then closed."""
    scene = Scene()
    _, sink = scene.attach("owner")
    scene.session.upstream_closed(UpstreamError("nobody there"))
    assert sink.types == ["session.created", "error"]
    assert sink.events[1]["error"]["message"] == "nobody there"
    assert sink.closed == (1014, "upstream_error")


def test_an_error_is_for_whoever_made_it() -> None:
    """The upstream's error about one client's event is told to that client, under the id that it gave, if it did."""
    scene = Scene()
    (first, first_sink), (second, second_sink) = scene.attach(), scene.attach()
    scene.go_live()
    for listener, sink, given in ((first, first_sink, "event_mine"), (second, second_sink, None)):
        named = {"event_id": given} if given else {}
        event_id = scene.send(listener, {"type": "response.cancel", **named})
        detail = server.ErrorDetail(type="invalid_request_error", message="no", event_id=event_id)
        scene.session.deliver_event(server.Error(error=detail))
        [error] = sink.of_type("error")
        assert error["error"]["event_id"] == given
    assert len(first_sink.of_type("error")) == len(second_sink.of_type("error")) == 1
    other = server.ErrorDetail(type="server_error", message="all", event_id=None)
    scene.session.deliver_event(server.Error(error=other))
    assert len(first_sink.of_type("error")) == len(second_sink.of_type("error")) == 2


def test_an_item_is_for_whoever_asked() -> None:
    """Two who ask for items get their own; one that nobody asked for is for everyone."""
    scene = Scene()
    (first, first_sink), (second, second_sink) = scene.attach(), scene.attach()
    scene.go_live()
    scene.send(first, {"type": "conversation.item.retrieve", "item_id": "item_a"})
    scene.send(second, {"type": "conversation.item.retrieve", "item_id": "item_b"})
    for item_id in ("item_b", "item_a", "item_c"):
        item = Message(id=item_id, role="assistant", content=[OutputText(text="hi")])
        scene.session.deliver_event(server.ConversationItemRetrieved(item=item))
    name = "conversation.item.retrieved"
    assert [event["item"]["id"] for event in first_sink.of_type(name)] == ["item_a", "item_c"]
    assert [event["item"]["id"] for event in second_sink.of_type(name)] == ["item_b", "item_c"]


def test_what_an_upstream_says_beyond_the_protocol_is_passed_on() -> None:
    """Fields that the bridge does not know reach its clients as they are, under the session's numbering."""
    scene = Scene()
    _, sink = scene.attach()
    scene.go_live()
    body = {"type": "input_audio_buffer.cleared", "event_id": "event_theirs", "new": {"a": [1]}}
    scene.session.deliver_event(server.InputAudioBufferCleared(), body)
    assert sink.events[1]["new"] == {"a": [1]}
    assert sink.events[1]["event_id"] == "event_" + sink.events[0]["event_id"].split("_")[1] + "_2"
