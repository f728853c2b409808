"""What was asked of an upstream and not answered yet; its successor is asked again."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from bridge.session.budget import Budget, size_of
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["Pending"]

_MAX_PENDING = 256  # client events under way; an older one counts as answered
_MAX_ANSWERING = 256  # answers under way; an older one counts as given
_RESPONSE_CREATE = "response.create"
_NO_REFUSALS = ("session_expired", "input_audio_too_fast")
_COMMIT = "input_audio_buffer.commit"

# Server event -> the client event that it answers, and the id by which both speak of the same item.
_ANSWERS: dict[type[ServerEvent], tuple[str, str | None]] = {
    server.SessionUpdated: ("session.update", None),
    server.ConversationItemAdded: ("conversation.item.create", "item.id"),
    server.ConversationItemDeleted: ("conversation.item.delete", "item_id"),
    server.ConversationItemRetrieved: ("conversation.item.retrieve", "item.id"),
    server.ConversationItemTruncated: ("conversation.item.truncate", "item_id"),
    server.InputAudioBufferCommitted: (_COMMIT, None),
    server.InputAudioBufferCleared: ("input_audio_buffer.clear", None),
    server.ResponseCreated: (_RESPONSE_CREATE, None),
}
_CANCEL = "response.cancel"
_ANSWERED = frozenset({_CANCEL, *(name for name, _ in _ANSWERS.values())})


@dataclass(slots=True, eq=False)
class _Asked:
    """A client event under way."""

    at: float
    body: Body
    size: int


class Pending:
    """Remembers what was asked. ``sent`` takes questions, ``follow`` takes answers; ``budget`` counts what is kept."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._unanswered: deque[_Asked] = deque()
        self._answering: dict[str, _Asked] = {}
        self._owes_answer = False
        self._is_speaking = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no question, no answer, and nobody speaks."""
        return not (self._unanswered or self._answering or self._owes_answer or self._is_speaking)

    @property
    def owes_answer(self) -> bool:
        """Whether an answer was asked for, by an event or by a caller's turn, and is not complete."""
        is_asked = any(asked.body["type"] == _RESPONSE_CREATE for asked in self._unanswered)
        return bool(is_asked or self._answering or self._owes_answer)

    def sent(self, body: Body, now: float) -> None:
        """Notes a client event that was sent. One whose answer cannot be recognised is not waited for."""
        if body["type"] not in _ANSWERED:
            return
        size = size_of(body)
        self._budget.charge(size)
        self._unanswered.append(_Asked(now, body, size))
        if len(self._unanswered) > _MAX_PENDING:
            self._forget(self._unanswered.popleft())

    def forget(self, before: float) -> None:
        """Forgets what was sent before then, because it will not be answered. A response may take longer."""
        for asked in tuple(self._unanswered):
            if asked.at < before and asked.body["type"] != _RESPONSE_CREATE:
                self._remove(asked)

    def follow(self, event: ServerEvent, *, answers_turns: bool) -> None:
        """Takes an event of the upstream; with ``answers_turns`` it answers a caller's turn without being asked."""
        if isinstance(event, server.InputAudioBufferSpeechStarted):
            self._is_speaking = True
        elif isinstance(event, server.InputAudioBufferSpeechStopped):
            self._is_speaking = False
        elif isinstance(event, server.ResponseDone):
            answered = self._answering.pop(event.response.id, None)
            if answered is not None:
                self._forget(answered)
            self._done(_CANCEL)
        elif isinstance(event, server.Error):
            self._refused(event.error)
        elif type(event) in _ANSWERS:
            name, id_path = _ANSWERS[type(event)]
            if isinstance(event, server.ResponseCreated):
                self._created(event.response)
                return
            asked = self._take(name, id_path, event)
            if asked is not None:
                self._forget(asked)
            elif isinstance(event, server.InputAudioBufferCommitted):
                self._owes_answer = answers_turns

    def take_requests(self) -> list[Body]:
        """All that another upstream must be asked, in order; nothing is pending any more.

        Answers that were being given are asked for again, unless somebody had stopped or interrupted them: a cancel
        without an id and the caller's voice stop the conversation's, and none of those beside it.
        """
        asked = [one.body for one in self._unanswered]
        stopped = {body.get("response_id") for body in asked if body["type"] == _CANCEL}
        is_stopped = self._is_speaking or None in stopped
        again: list[Body] = [
            one.body
            for response_id, one in self._answering.items()
            if response_id not in stopped and (_is_beside(one.body) or not is_stopped)
        ]
        if self._owes_answer and not is_stopped:
            again.append(_new_create())
        for one in (*self._unanswered, *self._answering.values()):
            self._forget(one)
        self._unanswered.clear()
        self._answering.clear()
        self._owes_answer = self._is_speaking = False
        return again + [body for body in asked if body["type"] != _CANCEL]

    def _created(self, response: items.Response) -> None:
        """The oldest question that the response fits: one beside the conversation is never what a turn is owed.

        A response that names no conversation is beside it, or comes from a service that does not say.
        """
        is_named = response.conversation_id is not None
        creates = [asked for asked in self._unanswered if asked.body["type"] == _RESPONSE_CREATE]
        fitting = [asked for asked in creates if _is_beside(asked.body) != is_named]
        asked = next(iter(fitting or ([] if is_named else creates)), None)
        if asked is not None:
            self._unanswered.remove(asked)
        else:
            body = _new_create()
            asked = _Asked(0.0, body, size_of(body))
            self._budget.charge(asked.size)
        before = self._answering.pop(response.id, None)
        self._answering[response.id] = asked
        if len(self._answering) > _MAX_ANSWERING:
            before = self._answering.pop(next(iter(self._answering)))
        if before is not None:
            self._forget(before)
        if not _is_beside(asked.body):
            self._owes_answer = False

    def _take(self, name: str, id_path: str | None = None, event: ServerEvent | None = None) -> _Asked | None:
        """Takes out the oldest event of this name that the answer fits; the budget still counts it."""
        for asked in self._unanswered:
            if asked.body["type"] == name and (id_path is None or _speaks_of(asked.body, id_path, event)):
                self._unanswered.remove(asked)
                return asked
        return None

    def _done(self, name: str) -> None:
        asked = self._take(name)
        if asked is not None:
            self._forget(asked)

    def _remove(self, asked: _Asked) -> None:
        self._unanswered.remove(asked)
        self._forget(asked)

    def _forget(self, asked: _Asked) -> None:
        self._budget.charge(-asked.size)

    def _refused(self, error: server.ErrorDetail) -> None:
        """A service that does not say which event it refuses means the response that it owes, if it owes one."""
        if error.event_id is None and error.code not in _NO_REFUSALS:
            self._done(_RESPONSE_CREATE)
            return
        for asked in self._unanswered:
            if asked.body.get("event_id") == error.event_id:
                self._remove(asked)
                return


def _new_create() -> Body:
    return {"type": _RESPONSE_CREATE, "event_id": new_id("event")}


def _is_beside(body: Body) -> bool:
    """Whether the response that was asked for is beside the conversation."""
    wanted = body.get("response")
    return isinstance(wanted, dict) and wanted.get("conversation") == "none"


def _speaks_of(body: Body, id_path: str, event: ServerEvent | None) -> bool:
    answered: Any = event
    for name in id_path.split("."):
        answered = getattr(answered, name)
    item = body.get("item")
    asked = item.get("id") if isinstance(item, dict) else body.get("item_id")
    return bool(asked == answered)
