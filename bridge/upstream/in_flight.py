"""Responses that are being given, so that one whose upstream is lost can be brought to an end for its hearers."""

from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from bridge.errors import UpstreamError
from bridge.session.budget import size_of
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.server_events import ServerEvent

__all__ = ["InFlight"]

_MAX_OPEN = 64  # responses; of more than that the oldest count as given
_MAX_BYTES = 4 * 1024 * 1024  # of what was said in them, for all hearers have had it


@dataclass(slots=True)
class _OpenPart:
    """A content part that is not complete."""

    kind: str
    text: str = ""
    is_sound_done: bool = False
    is_text_done: bool = False


@dataclass(slots=True)
class _OpenItem:
    item: items.Item
    output_index: int
    parts: dict[int, _OpenPart] = field(default_factory=dict)
    arguments: str = ""
    is_finished: bool = False
    is_in_conversation: bool = False
    is_done_in_conversation: bool = False


@dataclass(slots=True)
class _Open:
    response: items.Response
    items: dict[str, _OpenItem] = field(default_factory=dict)


class InFlight:
    """Responses in progress. ``follow`` takes what the upstream says; ``end`` gives the events that it still owed."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._bytes = 0

    def follow(self, event: ServerEvent) -> None:
        """Takes any event of the upstream.

        If too much is kept already, what it begins is not brought to an end later.
        """
        if isinstance(event, server.ResponseCreated):
            self._open[event.response.id] = _Open(event.response)
            if len(self._open) > _MAX_OPEN:
                del self._open[next(iter(self._open))]
            self._count(event)
        elif isinstance(event, server.ResponseDone):
            self._open.pop(event.response.id, None)
            if not self._open:
                self._bytes = 0
        elif isinstance(event, server.ConversationItemAdded | server.ConversationItemDone):
            for is_open in self._open.values():
                item = is_open.items.get(str(event.item.id))
                if item is not None:
                    item.is_in_conversation = True
                    item.is_done_in_conversation |= isinstance(event, server.ConversationItemDone)
        else:
            concerned = self._open.get(getattr(event, "response_id", ""))
            if concerned is not None and self._count(event):
                _follow(concerned, event)

    def _count(self, event: ServerEvent) -> bool:
        """Whether there is room for what the event says. If not, everything that was kept is dropped."""
        self._bytes += size_of(getattr(event, "delta", event))
        if self._bytes > _MAX_BYTES:
            self._open.clear()
            self._bytes = 0
            return False
        return True

    def function_of(self, item_id: Any) -> str:
        """The name of the function that an open item calls."""
        for is_open in self._open.values():
            for open_id, known in is_open.items.items():
                if open_id == item_id and isinstance(known.item, items.FunctionCall):
                    return known.item.name
        return ""

    def end(self, error: UpstreamError) -> list[ServerEvent]:
        """Every open response fails: all that is owed of it, in the protocol's order, then its items are taken back.

        What was begun is begun anew by another upstream; it must not stand in the conversation twice.
        """
        events: list[ServerEvent] = []
        for is_open in self._open.values():
            response = is_open.response
            for item_id, item in is_open.items.items():
                events += _finish(response.id, item_id, item)
            response.status = "failed"
            response.status_details = items.StatusDetails(
                type="failed", error={"type": "server_error", "code": error.code, "message": error.message}
            )
            response.output = [item.item for item in is_open.items.values()]
            events.append(server.ResponseDone(response=response))
            events += [
                server.ConversationItemDeleted(item_id=item_id)
                for item_id, item in is_open.items.items()
                if item.is_in_conversation
            ]
        self._open.clear()
        return events


def _follow(is_open: _Open, event: ServerEvent) -> None:
    if isinstance(event, server.OutputItemAdded):
        is_open.items[str(event.item.id)] = _OpenItem(event.item, event.output_index)
        return
    if isinstance(event, server.OutputItemDone):
        finished = is_open.items.setdefault(str(event.item.id), _OpenItem(event.item, event.output_index))
        finished.item, finished.is_finished = event.item, True
        return
    item = is_open.items.get(getattr(event, "item_id", ""))
    if item is None:
        return
    if isinstance(event, server.FunctionCallArgumentsDelta):
        item.arguments += event.delta
    elif isinstance(event, server.ContentPartAdded):
        item.parts[event.content_index] = _OpenPart(event.part.type)
    elif isinstance(event, server.ContentPartDone):
        item.parts.pop(event.content_index, None)
    else:
        part = item.parts.get(getattr(event, "content_index", -1))
        if part is None:
            return
        if isinstance(event, server.OutputTextDelta | server.OutputAudioTranscriptDelta):
            part.text += event.delta
        elif isinstance(event, server.OutputAudioDone):
            part.is_sound_done = True
        elif isinstance(event, server.OutputTextDone | server.OutputAudioTranscriptDone):
            part.is_text_done = True


def _finish(response_id: str, item_id: str, is_open: _OpenItem) -> list[ServerEvent]:
    """The events that are still owed of one item."""
    events: list[ServerEvent] = []
    item = is_open.item
    if not is_open.is_finished:
        place: dict[str, Any] = {
            "response_id": response_id,
            "item_id": item_id,
            "output_index": is_open.output_index,
        }
        if isinstance(item, items.FunctionCall):
            item.arguments = is_open.arguments
            call_id = item.call_id if item.call_id is not UNSET else ""
            events.append(
                server.FunctionCallArgumentsDone(**place, call_id=call_id, name=item.name, arguments=item.arguments)
            )
        for index, part in is_open.parts.items():
            events += _finish_part({**place, "content_index": index}, part)
        item.status = "incomplete"
        events.append(server.OutputItemDone(response_id=response_id, output_index=is_open.output_index, item=item))
    if is_open.is_in_conversation and not is_open.is_done_in_conversation:
        events.append(server.ConversationItemDone(item=item))
    return events


def _finish_part(place: dict[str, Any], part: _OpenPart) -> list[ServerEvent]:
    events: list[ServerEvent] = []
    if part.kind == "audio":
        if not part.is_sound_done:
            events.append(server.OutputAudioDone(**place))
        if not part.is_text_done:
            events.append(server.OutputAudioTranscriptDone(**place, transcript=part.text))
        done = items.ContentPart(type="audio", transcript=part.text)
    else:
        if not part.is_text_done:
            events.append(server.OutputTextDone(**place, text=part.text))
        done = items.ContentPart(type="text", text=part.text)
    events.append(server.ContentPartDone(**place, part=done))
    return events
