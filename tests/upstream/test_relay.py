"""What is said over the lines of one call: to whom, how often, and what a new line is told."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UpstreamError
from bridge.session.state import SessionState
from bridge.upstream.relay import Relay
from bridge.upstream.target import Profile
from bridge.wire import items
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body
from tests.engine.talk import Recorder, silence
from tests.fakes import CONTEXT
from tests.wire.strange import strange_events

CREATED: Body = {"type": "realtime", "id": "sess_theirs", "model": "theirs", "expires_at": 1, "instructions": "be kind"}
LOST = UpstreamError("The cable broke.", code="upstream_lost")
QUESTION = {"id": "item_a", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


class Paper:
    """A line on which everything is written down."""

    plays = False
    passage = None
    input_format: AudioFormat = PCM16
    output_format: AudioFormat = PCM16

    def __init__(self) -> None:
        self.sent: list[Body] = []
        self.sound = b""

    async def open(self, owner: object, state: SessionState) -> None: ...
    async def run(self) -> None: ...
    async def aclose(self) -> None: ...

    def send_client_event(self, body: Body) -> None:
        self.sent.append(body)

    def send_audio(self, sound: bytes) -> None:
        self.sound += sound

    @property
    def types(self) -> list[str]:
        return [body["type"] for body in self.sent]


class Told:
    """A relay between a session and its first line."""

    def __init__(self, wanted: Body | None = None) -> None:
        self.said = Recorder()
        self.said.state = SessionState(self.said.state.config, wanted)
        self.relay = Relay(self.said, self.said.state, CONTEXT.logger("upstream"))
        self.line = Paper()
        self.relay.greet(self.line, CREATED, 0.0)

    def hear(self, name: str, **fields: Any) -> None:
        self.relay.hear({"type": name, "event_id": "event_theirs", **fields})

    def renew(self, *, is_renewal: bool = False) -> Paper:
        if not is_renewal:
            self.relay.lose(LOST)
        self.line = Paper()
        self.relay.brief(self.line, {**CREATED, "id": "sess_next"}, 1.0, is_renewal=is_renewal)
        return self.line


def test_the_first_line_is_greeted() -> None:
    """Where nothing was asked for, there is nothing to wait for; else clients hear of it when it is granted."""
    assert Told().said.types == ["session.created"]
    told = Told({"instructions": "sing"})
    assert told.said.types == []
    assert told.line.sent[0]["session"] == {"type": "realtime", "instructions": "sing"}
    told.hear("session.updated", session={**CREATED, "instructions": "sing"})
    [created] = told.said.events
    assert (created["type"], created["session"]["instructions"]) == ("session.created", "sing")
    assert created["session"]["id"] == "sess_1"


def test_a_turn_without_answers_leaves_nothing_owed() -> None:
    """A transcription session's turn detection says create_response as any; the service owes no response for that."""
    sound = {"input": {"turn_detection": {"type": "server_vad", "create_response": True}}}
    for kind, is_owed in (("realtime", True), ("transcription", False)):
        told = Told({"type": kind})
        told.hear("session.updated", session={**CREATED, "type": kind, "audio": sound})
        told.hear("input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
        assert told.relay.owes_answer is is_owed


def test_clients_hear_what_the_service_says_of_its_session() -> None:
    """All of it, whatever the bridge knows; only id and expiry are the bridge's."""
    told = Told({"instructions": "sing"})
    told.hear("session.updated", session={**CREATED, "mood": "calm", "tools": [{"type": "x_search"}]})
    [created] = told.said.events
    assert (created["session"]["mood"], created["session"]["tools"]) == ("calm", [{"type": "x_search"}])
    assert created["session"]["id"] == "sess_1"


def test_a_refusal_without_a_name_is_of_the_greeting() -> None:
    """A service that does not say which event it refuses leaves nobody waiting."""
    told = Told({"instructions": "sing"})
    told.hear("error", error={"type": "invalid_request_error", "message": "no"})
    assert told.said.types == ["session.created", "error"]


def test_a_loss_before_the_greeting_is_granted() -> None:
    """The next line is asked for the same once, and nobody hears of the loss."""
    told = Told({"instructions": "sing"})
    told.relay.lose(LOST)
    line = Paper()
    told.relay.greet(line, CREATED, 1.0)
    assert line.types == ["session.update"]
    told.hear("session.updated", session=CREATED)
    assert told.said.types == ["session.created"]


def test_a_line_that_is_lost_while_it_is_told() -> None:
    """The configuration is told to the next one once, and clients hear of it once."""
    told = Told()
    told.renew()
    line = told.renew()
    assert line.types == ["session.update"]
    told.hear("session.updated", session=CREATED)
    assert told.said.types == ["session.created", "error", "error", "session.updated"]


def test_a_configuration_that_is_refused() -> None:
    """Clients are told why, and how the session is set instead; a renewal by plan stays unheard."""
    told = Told()
    update = told.renew().sent[0]
    detail = {"type": "invalid_request_error", "code": "no_such_voice", "message": "no", "event_id": update["event_id"]}
    told.hear("error", error=detail)
    assert told.said.types == ["session.created", "error", "error", "session.updated"]
    assert told.said.events[-2]["error"]["event_id"] is None
    assert told.said.events[-1]["session"]["id"] == "sess_1"


def test_a_renewal_that_is_refused_costs_no_answer() -> None:
    """The next update of a client is answered."""
    told = Told()
    update = told.renew(is_renewal=True).sent[0]
    told.hear("error", error={"type": "t", "message": "no", "event_id": update["event_id"]})
    before = len(told.said.events)
    told.hear("session.updated", session=CREATED)
    assert told.said.types[before:] == ["session.updated"]


def test_an_item_that_is_half_told_is_told_whole() -> None:
    """Added on one line and repeated on the next: it is done, once."""
    told = Told()
    told.hear("conversation.item.added", item=QUESTION, previous_item_id=None)
    told.renew()
    for name in ("added", "done"):
        told.hear(f"conversation.item.{name}", item=QUESTION, previous_item_id=None)
    assert told.said.types == ["session.created", "conversation.item.added", "conversation.item.done", "error"]


def test_an_item_that_is_gone_is_not_done() -> None:
    """Half told and deleted, there is nothing to tell."""
    told = Told()
    told.hear("conversation.item.added", item=QUESTION, previous_item_id=None)
    told.hear("conversation.item.deleted", item_id="item_a")
    told.renew()
    assert told.said.types[1:] == ["conversation.item.added", "conversation.item.deleted", "error"]


def test_a_turn_that_was_committed_and_is_no_item_yet() -> None:
    """It becomes one on the next line, with its sound and under the id that was promised."""
    told = Told()
    told.relay.push(told.line, silence(200))
    told.hear("input_audio_buffer.committed", item_id="item_a", previous_item_id=None)
    update, create, *_ = told.renew().sent
    assert (update["type"], create["item"]["id"]) == ("session.update", "item_a")
    [part] = create["item"]["content"]
    assert part["type"] == "input_audio"
    told.hear("conversation.item.added", item={**QUESTION, "content": [{"type": "input_audio"}]}, previous_item_id=None)
    assert told.said.types[-1] == "conversation.item.added"
    assert told.renew().types.count("conversation.item.create") == 1


def test_what_is_ours_is_ours_to_bear() -> None:
    """An error in what the bridge itself said reaches nobody; the service's own age is no error."""
    told = Told()
    told.hear("conversation.item.added", item=QUESTION, previous_item_id=None)
    line = told.renew()
    told.hear("error", error={"type": "t", "message": "no", "event_id": line.sent[1]["event_id"]})
    told.hear("error", error={"type": "t", "code": "session_expired", "message": "60 minutes"})
    assert told.said.types.count("error") == 1
    told.hear("error", error={"type": "t", "message": "theirs", "event_id": "event_of_a_client"})
    assert told.said.events[-1]["error"]["message"] == "theirs"


def test_the_name_of_a_function_is_known() -> None:
    """Beta says it with the item only, GA with the arguments too."""
    told = Told()
    call = {"id": "item_f", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}
    told.hear("response.created", response={"id": "resp_1"})
    told.hear("response.output_item.added", response_id="resp_1", output_index=0, item=call)
    place = {"response_id": "resp_1", "output_index": 0, "call_id": "call_1"}
    told.hear("response.function_call_arguments.done", item_id="item_f", arguments="{}", **place)
    assert told.said.events[-1]["name"] == "f"
    told.hear("response.function_call_arguments.done", item_id="item_x", arguments="{}", **place)
    assert told.said.events[-1]["name"] == ""


def test_times_count_from_the_first_sound() -> None:
    """Whichever line heard it: what a line did not hear is added to what it says."""
    told = Told()
    told.relay.push(told.line, silence(5000))
    line = told.renew()
    told.hear("input_audio_buffer.timeout_triggered", audio_start_ms=10, audio_end_ms=20, item_id="i")
    ahead_ms = 5000 - len(line.sound) // 48
    triggered = told.said.events[-1]
    assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (10 + ahead_ms, 20 + ahead_ms)
    assert ahead_ms > 0


@given(st.lists(strange_events, max_size=6), st.booleans(), st.sampled_from(["ga", "beta"]))
def test_a_strange_upstream_ends_nothing(events: list[Body], is_renewal: bool, dialect: Any) -> None:
    """Whatever one says, in either dialect: it is carried, a loss is made good, and the next line is told."""
    told = Told()
    profile = Profile(dialect=dialect)
    for event in events:
        message = decode_relayed(json.dumps(event))
        if not isinstance(message, AudioDelta):
            for body in profile.decode(message):
                told.relay.hear(body)
    told.renew(is_renewal=is_renewal)
    assert told.line.types[0] == "session.update"
    for body in told.line.sent:
        profile.encode(body)
    assert all(isinstance(event["type"], str) for event in told.said.events)


def test_the_first_line_is_told_what_another_process_knew() -> None:
    """A call that was taken over has items already: the line hears of them, and clients are not told again."""
    told = Told()
    state = told.said.state
    restored = Relay(told.said, state, CONTEXT.logger("upstream"))
    question = items.Message(id="item_a", role="user", content=[items.InputText(text="hi")])
    state.conversation.insert(question, None)
    line = Paper()
    restored.greet(line, CREATED, 0.0)
    [created] = [body for body in line.sent if body["type"] == "conversation.item.create"]
    assert (created["item"]["id"], created["previous_item_id"]) == ("item_a", "root")
    heard = len(told.said.events)
    for name in ("conversation.item.added", "conversation.item.done"):
        restored.hear({"type": name, "event_id": "event_theirs", "previous_item_id": None, "item": QUESTION})
    assert len(told.said.events) == heard
