"""Decides what webhooks tell: the name of each event, whom it is about, and what is said of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.context import CallContext
from bridge.session.session import Session
from bridge.wire.own_events import (
    CallClosed,
    CallIncoming,
    CallOpened,
    RecordingEnded,
    RecordingUploaded,
    UpstreamDown,
    UpstreamUp,
)
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallStats

__all__ = ["Notification", "WebhookNotifier"]


@dataclass(frozen=True, slots=True)
class Notification:
    """One event as receivers get it. Those of the same ``subject`` come to them in their order."""

    type: str
    subject: str
    data: Mapping[str, Any]
    traceparent: str = ""
    """The trace of the call, as the header ``traceparent`` has it."""


class WebhookNotifier:
    """Makes what webhooks tell of events.

    It remembers the calls that run, because a webhook says more of a call's end than the event does.
    """

    def __init__(self, find: Callable[[str], Session]) -> None:
        self._find = find
        self._calls: dict[str, Session] = {}

    def tell(self, event: ServerEvent) -> Notification | None:
        """Returns what is to be told of an event that all followers of all calls get; None if nothing is."""
        match event:
            case CallOpened(call=call):
                session = self._calls[call.id] = self._find(call.id)
                return Notification(
                    "call.opened", call.id, _known(call, session.context.secrets), _traceparent(session.context)
                )
            case CallIncoming(call_id=call_id, sip_headers=headers, traceparent=traceparent):
                data = {"call_id": call_id, "sip_headers": msgspec.to_builtins(headers)}
                return Notification("realtime.call.incoming", call_id, data, traceparent or "")
            case CallClosed(call_id=call_id):
                session = self._calls.pop(call_id)
                stats = msgspec.to_builtins(session.stats())
                stats["metadata"] = _without(stats["metadata"], session.context.secrets)
                ending = {"call_id": call_id, "result": str(event.result), "reason": event.reason}
                return Notification("call.closed", call_id, {**ending, "stats": stats}, _traceparent(session.context))
            case RecordingEnded(awaits_upload=True):  # it is told once the recording can be fetched
                return None
            case RecordingEnded(call_id=call_id, error=error):
                told = msgspec.to_builtins(event)
                kept = ("call_id", "recording_id", "reason", "seconds", "files", "error")
                kind = "recording.completed" if error is None else "recording.failed"
                return Notification(kind, call_id, {name: told[name] for name in kept})
            case RecordingUploaded(call_id=call_id):
                told = msgspec.to_builtins(event)
                kept = ("call_id", "recording_id", "reason", "seconds", "files", "urls")
                return Notification("recording.completed", call_id, {name: told[name] for name in kept})
            case UpstreamDown(upstream=name, code=code):
                return Notification("upstream.down", name, {"upstream": name, "code": code})
            case UpstreamUp(upstream=name):
                return Notification("upstream.up", name, {"upstream": name})
            case _:
                return None


def _known(call: CallStats, secrets: Iterable[str]) -> dict[str, Any]:
    """Returns what is known of a call when it begins."""
    return {
        "call_id": call.id,
        "session_id": call.session_id,
        "transport": call.transport,
        "model": call.model,
        "started_at": call.started_at,
        "metadata": _without(call.metadata, secrets),
    }


def _without(metadata: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Returns the metadata without secrets, which would open something."""
    hidden = frozenset(secrets)
    return {name: value for name, value in metadata.items() if value not in hidden}


def _traceparent(context: CallContext) -> str:
    return context.trace_headers.get("traceparent", "")
