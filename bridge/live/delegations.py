"""Tasks that the model delegates: to Live clients they are delegations, to a GA session calls of functions."""

from typing import Any, TypeVar

from bridge.errors import BadEvent
from bridge.live.audience import LiveAudience
from bridge.live.sessions import DELEGATE
from bridge.live.timeline import Timeline
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.live import server_events as told
from bridge.wire.live.sessions import LiveSession, ResponsesDelegation
from bridge.wire.server_events import Body

__all__ = ["Delegations"]

_MAX_OPEN = 256
_T = TypeVar("_T")
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}


class Delegations:
    """The delegations of one call, and the calls of functions that have no output yet.

    Of those that nobody answers, the newest 256 are known.
    """

    def __init__(self, audience: LiveAudience, timeline: Timeline) -> None:
        self._audience = audience
        self._timeline = timeline
        self._calls: dict[str, str | None] = {}
        """The call of each delegation to the application; None if its output is there already."""
        self._pending: dict[str, None] = {}
        """The calls of tools that have no output yet, oldest first."""
        self._of_response: dict[str, str] = {}
        """The delegation of each response that has called a tool and is not done."""
        self._events = 0

    # What the session says

    def follow_item(self, event: server.OutputItemDone, asked: LiveSession) -> None:
        """Takes an item that a response has finished."""
        item = event.item
        if not isinstance(item, items.FunctionCall):
            return
        if isinstance(asked.delegation, ResponsesDelegation):
            self._call_tool(event, item)
        elif item.name == DELEGATE:
            self._delegate(item)

    def _delegate(self, item: items.FunctionCall) -> None:
        delegation = told.Delegation(id=new_id("dlg"), target="client")
        _keep(self._calls, delegation.id, str(item.call_id))
        self._tell(delegation)

    def _call_tool(self, event: server.OutputItemDone, item: items.FunctionCall) -> None:
        response_id = event.response_id
        if response_id not in self._of_response:
            delegation = told.Delegation(id=new_id("dlg"), target="responses", response_id=response_id)
            _keep(self._of_response, response_id, delegation.id)
            self._tell(delegation)
            self._stream(response_id, {"type": "response.created", "response": _snapshot(response_id, "in_progress")})
        _keep(self._pending, str(item.call_id), None)
        call = {
            "type": "function_call",
            "id": str(item.id),
            "call_id": str(item.call_id),
            "name": item.name,
            "arguments": item.arguments,
            "status": "completed",
        }
        self._stream(
            response_id,
            {"type": "response.output_item.done", "output_index": event.output_index, "item": call},
        )

    def _tell(self, delegation: told.Delegation) -> None:
        self._audience.tell(told.DelegationCreated(delegation=delegation, offset_ms=self._timeline.now_ms))

    def _stream(self, response_id: str, event: Body) -> None:
        self._events += 1
        self._audience.tell(
            told.ResponseEvent(
                event={**event, "sequence_number": self._events}, delegation_id=self._of_response[response_id]
            )
        )

    def follow_done(self, event: server.ResponseDone) -> None:
        """Takes the end of a response. The calls of one that did not end well need no output."""
        response = event.response
        if response.id not in self._of_response:
            return
        is_whole = response.status == "completed"
        if not is_whole:
            calls = [item for item in response.output if isinstance(item, items.FunctionCall)]
            for call in calls:
                self._pending.pop(str(call.call_id), None)
        kind = "response.completed" if is_whole else "response.incomplete"
        status = "completed" if is_whole else "incomplete"
        self._stream(response.id, {"type": kind, "response": _snapshot(response.id, status)})
        del self._of_response[response.id]

    # What clients say

    def answer(self, delegation_id: str | None, *, is_result: bool) -> str | None:
        """Returns the call whose output an append is; None if the append is told as it stands.

        The first commentary on a delegation is its output. Raises ``BadEvent`` if there is no such delegation.
        """
        if delegation_id is None:
            return None
        if delegation_id not in self._calls and delegation_id not in self._of_response.values():
            message = f"There is no delegation '{delegation_id[:64]}'."
            raise BadEvent(message, code="invalid_value", param="delegation_id")
        if not is_result:
            return None
        call_id = self._calls.get(delegation_id)
        _keep(self._calls, delegation_id, None)
        return call_id

    @staticmethod
    def require_responses(asked: LiveSession) -> None:
        """Raises ``BadEvent`` if no Responses model works for the session."""
        if not isinstance(asked.delegation, ResponsesDelegation):
            message = "This needs a session with a delegation of type 'responses'."
            raise BadEvent(message, code="invalid_request", param="type")

    def require_outputs(self) -> None:
        """Raises ``BadEvent`` if a call has no output yet."""
        if self._pending:
            missing = ", ".join(sorted(self._pending))[:500]
            message = f"These function calls have no output yet: {missing}."
            raise BadEvent(message, code="function_call_outputs_required")

    def take_item(self, item: Body) -> Body:
        """Returns an item of the Responses API as GA has it; raises ``BadEvent``, which names the field."""
        kind = item.get("type", "message")
        if kind == "function_call_output":
            return self._output(item)
        if kind != "message":
            message = "An item must be a message or a function_call_output."
            raise BadEvent(message, code="unsupported_parameter", param="item.type")
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            raise BadEvent(f"'item.role' must be one of {', '.join(_ROLES)}.", param="item.role")
        return {"type": "message", "role": role, "content": _parts(item.get("content"), role)}

    def _output(self, item: Body) -> Body:
        call_id, output = item.get("call_id"), item.get("output")
        if not isinstance(call_id, str) or call_id not in self._pending:
            message = f"No function call '{str(call_id)[:64]}' is waiting for an output."
            raise BadEvent(message, code="invalid_value", param="item.call_id")
        if not isinstance(output, str):
            raise BadEvent("'item.output' must be a string.", param="item.output")
        del self._pending[call_id]
        return {"type": "function_call_output", "call_id": call_id, "output": output}


def _keep(known: dict[str, _T], key: str, value: _T) -> None:
    known[key] = value
    if len(known) > _MAX_OPEN:
        del known[next(iter(known))]


def _parts(content: Any, role: str) -> list[Body]:
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(content, str):
        return [{"type": kind, "text": content}]
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == kind]
    if not parts or len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise BadEvent(f"'item.content' must be a string, or parts of type '{kind}'.", param="item.content")
    return [{"type": kind, "text": text} for text in texts]


def _snapshot(response_id: str, status: str) -> Body:
    return {"id": response_id, "object": "response", "status": status, "output": [], "tools": [], "instructions": None}
