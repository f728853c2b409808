"""What is noted of a call, and what another process makes of it."""

import msgspec

from bridge.calls.notes import CallNotes, restore
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import WEBSOCKET
from tests.fakes import FakeUpstream

_LIMITS = CallLimits(max_calls=2, max_listeners_per_call=2, call_limit_s=60.0, resume_grace_s=10.0)


def _said(item_id: str, *parts: items.Content, role: str = "user", status: str = "completed") -> items.Message:
    return items.Message(id=item_id, role=role, status=status, content=list(parts))  # type: ignore[arg-type]


async def test_notes_go_through_bytes_and_into_another_state() -> None:
    """Words, functions and the configuration are there, in order; sound, an unfinished answer and secrets are not."""
    upstream = FakeUpstream()
    async with Registry(lambda info: upstream, _LIMITS) as registry:
        asked = SessionRequest.of(SessionConfig(instructions="be kind"))
        terms = Terms(update=asked, key_id="key_1", metadata={"a": "b", "door": "s3cret"}, secrets=("s3cret",))
        session = registry.open(terms, transport=WEBSOCKET)
        spoken = items.InputAudio(audio="UklGRg==", transcript="hello")
        call = items.FunctionCall(id="item_f", call_id="call_1", name="look", arguments="{}", status="completed")
        for item in (
            _said("item_a", spoken),
            _said("item_b", items.OutputAudio(transcript="hi"), role="assistant"),
            call,
            _said("item_c", items.OutputAudio(), role="assistant", status="in_progress"),
        ):
            session.deliver_event(server.ConversationItemAdded(item=item))
        answer = items.Response(id="resp_1", conversation_id="conv_1", output_modalities=["audio"])
        session.deliver_event(server.ResponseCreated(response=answer))
        notes = registry.notes(session.info.id)
        assert notes is not None
        read = msgspec.json.decode(msgspec.json.encode(notes), type=CallNotes)
        assert read == notes
        assert (read.key_id, read.metadata, read.owes_answer) == ("key_1", {"a": "b"}, True)
        state = SessionState(SessionConfig())
        restore(read, state)
        assert [str(item.id) for item in state.conversation.items()] == ["item_a", "item_b", "item_f"]
        first = state.conversation.find("item_a")
        assert isinstance(first, items.Message)
        assert first.content == [items.InputAudio(transcript="hello")]
        assert read.config.instructions == "be kind"


async def test_a_call_is_adopted_with_its_ids_and_its_key() -> None:
    """It waits for whoever it is, who comes back with the old key; its listeners' last events are known."""
    upstreams: list[FakeUpstream] = []

    def new_upstream(info: object) -> FakeUpstream:
        upstreams.append(FakeUpstream())
        return upstreams[-1]

    async with Registry(new_upstream, _LIMITS) as one, Registry(new_upstream, _LIMITS) as other:
        session = one.open(Terms(), transport=WEBSOCKET)
        notes = one.notes(session.info.id)
        assert notes is not None
        adopted = other.adopt(notes, other.admission.reserve())
        assert (adopted.info.id, adopted.info.session_id) == (session.info.id, session.info.session_id)
        assert adopted.lifetime.window.key == session.lifetime.window.key
        assert adopted.lifetime.state == "lost"
        assert other.admission.calls == 1
    assert one.notes("rtc_nobody") is None
