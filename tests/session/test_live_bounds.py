"""What a Live call keeps of a service that never comes to an end, and what keeps a relayed call from being idle."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.errors import BadEvent, Forbidden
from bridge.live.audience import LiveAudience
from bridge.live.delegations import Delegations
from bridge.live.hosted_tools import refuse_hosted_tools
from bridge.live.relay_mind import RelayMind
from bridge.live.timeline import Timeline
from bridge.upstream.live.realtime_client import RealtimeClient
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.client_events import message_of
from bridge.wire.live.sessions import LiveSession, ResponsesDelegation

_ASKED = LiveSession(model="m", delegation=ResponsesDelegation())
_MANY = 1000


def _output(number: int) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": "x"}


def test_calls_that_nobody_answers_are_forgotten() -> None:
    """The newest 256 wait for their outputs; what is older keeps no answer back."""
    delegations = Delegations(LiveAudience("live_1"), Timeline(lambda: 0.0, on_start=lambda: None))
    for number in range(_MANY):
        call = items.FunctionCall(id=f"item_{number}", call_id=f"call_{number}", name="f", arguments="{}")
        event = server.OutputItemDone(response_id=f"resp_{number}", output_index=0, item=call)
        delegations.follow_item(event, _ASKED)
    with pytest.raises(BadEvent):
        delegations.take_item(_output(0))
    with pytest.raises(BadEvent):
        delegations.require_outputs()
    for number in range(_MANY - 256, _MANY):
        delegations.take_item(_output(number))
    delegations.require_outputs()


def test_calls_of_a_backend_model_that_nobody_answers_are_forgotten() -> None:
    """Once the newest 256 have their outputs, the model is asked to go on."""
    client = RealtimeClient(has_backend=True)
    for number in range(_MANY):
        client.call(f"call_{number}")
    for number in range(_MANY - 256, _MANY):
        output = {"type": "conversation.item.create", "item": _output(number)}
        client.events(message_of(output))
    assert client.events(message_of({"type": "response.create"})) == [{"type": "response.create"}]


class _Service:
    """A service's side of a passage, which says what the test says."""

    say: Callable[[dict[str, Any]], None] | None = None

    def tell(self, taker: Callable[[dict[str, Any]], None] | None) -> None:
        self.say = taker

    def receive_live_client_event(self, body: dict[str, Any]) -> None:
        raise AssertionError(body)


def test_what_a_service_says_keeps_its_call_from_being_idle() -> None:
    """But for the seconds that it has counted, which it says by the clock."""
    active: list[str] = []
    service = _Service()
    timeline = Timeline(lambda: 0.0, on_start=lambda: None)
    mind = RelayMind(service, "live_1", LiveAudience("live_1"), timeline, on_activity=lambda: active.append(kind))
    mind.start()
    assert service.say is not None
    for kind in ("session.started", "session.usage.updated", "session.output_transcript.delta"):
        service.say({"type": kind})
    assert active == ["session.started", "session.output_transcript.delta"]


@pytest.mark.parametrize("kind", ["mcp", "web_search", "namespace", 5, None])
def test_tools_that_a_service_runs_are_refused_by_name(kind: Any) -> None:
    """Wherever they are; a function may have a parameter that is called so."""
    own = [{"type": "function", "name": "f", "parameters": {"tools": [{"type": "mcp"}]}}, {"type": "custom"}]
    refuse_hosted_tools({"delegation": {"responses": {"tools": own}}, "tools": None})
    with pytest.raises(Forbidden) as caught:
        refuse_hosted_tools({"input": [{"tools": [*own, {"type": kind}]}]}, "session")
    assert caught.value.param == "session.input[0].tools[2].type"
