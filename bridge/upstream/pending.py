"""What was asked of an upstream and not answered yet; its successor is asked again."""

from collections import deque
from typing import Any

from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["Pending"]

_MAX_PENDING = 256  # client events under way; an older one counts as answered
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


class Pending:
    """``sent`` what is asked, ``follow`` what is answered."""

    def __init__(self) -> None:
        self._unanswered: deque[tuple[float, Body]] = deque(maxlen=_MAX_PENDING)
        self._answering: dict[str, Body] = {}
        self._owes_answer = False
        self._is_speaking = False

    @property
    def is_idle(self) -> bool:
        """Nothing is under way: no question, no answer, nobody speaks."""
        return not (self._unanswered or self._answering or self._owes_answer or self._is_speaking)

    @property
    def owes_answer(self) -> bool:
        """An answer was asked for, by an event or by a caller's turn, and is not complete."""
        is_asked = any(body["type"] == _RESPONSE_CREATE for _, body in self._unanswered)
        return bool(is_asked or self._answering or self._owes_answer)

    def sent(self, body: Body, now: float) -> None:
        """A client event went out."""
        self._unanswered.append((now, body))

    def forget(self, before: float) -> None:
        """What was sent before then is not going to be answered; a response may take its time."""
        for at, body in tuple(self._unanswered):
            if at < before and body["type"] != _RESPONSE_CREATE:
                self._unanswered.remove((at, body))

    def follow(self, event: ServerEvent, *, answers_turns: bool) -> None:
        """An event of the upstream's; ``answers_turns``: it answers a caller's turn without being asked."""
        if isinstance(event, server.InputAudioBufferSpeechStarted):
            self._is_speaking = True
        elif isinstance(event, server.InputAudioBufferSpeechStopped):
            self._is_speaking = False
        elif isinstance(event, server.ResponseDone):
            self._answering.pop(event.response.id, None)
            self._take("response.cancel")
        elif isinstance(event, server.Error):
            self._refused(event.error)
        elif type(event) in _ANSWERS:
            name, id_path = _ANSWERS[type(event)]
            if isinstance(event, server.ResponseCreated):
                self._created(event.response)
                return
            asked = self._take(name, id_path, event)
            if isinstance(event, server.InputAudioBufferCommitted) and asked is None:
                self._owes_answer = answers_turns

    def take(self) -> list[Body]:
        """All that another upstream must be asked, in order; nothing is pending any more.

        Answers that were being given are asked for again, unless somebody had stopped or interrupted them: a cancel
        without an id and the caller's voice stop the conversation's, and none of those beside it.
        """
        asked = [body for _, body in self._unanswered]
        stopped = {body.get("response_id") for body in asked if body["type"] == "response.cancel"}
        is_stopped = self._is_speaking or None in stopped
        again: list[Body] = [
            body
            for response_id, body in self._answering.items()
            if response_id not in stopped and (_is_beside(body) or not is_stopped)
        ]
        if self._owes_answer and not is_stopped:
            again.append(_new_create())
        self._unanswered.clear()
        self._answering.clear()
        self._owes_answer = self._is_speaking = False
        return again + [body for body in asked if body["type"] != "response.cancel"]

    def _created(self, response: items.Response) -> None:
        """The oldest question that the response fits: one beside the conversation is never what a turn is owed.

        A response that names no conversation is beside it, or comes from a service that does not say.
        """
        is_named = response.conversation_id is not None
        creates = [(at, body) for at, body in self._unanswered if body["type"] == _RESPONSE_CREATE]
        fitting = [given for given in creates if _is_beside(given[1]) != is_named]
        asked = next(iter(fitting or ([] if is_named else creates)), None)
        if asked is not None:
            self._unanswered.remove(asked)
        self._answering[response.id] = body = asked[1] if asked is not None else _new_create()
        if not _is_beside(body):
            self._owes_answer = False

    def _take(self, name: str, id_path: str | None = None, event: ServerEvent | None = None) -> Body | None:
        """The oldest event of this name that the answer fits."""
        for at, body in self._unanswered:
            if body["type"] == name and (id_path is None or _speaks_of(body, id_path, event)):
                self._unanswered.remove((at, body))
                return body
        return None

    def _refused(self, error: server.ErrorDetail) -> None:
        """A service that does not say which event it refuses means the response that it owes, if it owes one."""
        if error.event_id is None and error.code not in _NO_REFUSALS:
            self._take(_RESPONSE_CREATE)
            return
        for at, body in self._unanswered:
            if body.get("event_id") == error.event_id:
                self._unanswered.remove((at, body))
                return


def _new_create() -> Body:
    return {"type": _RESPONSE_CREATE, "event_id": new_id("event")}


def _is_beside(body: Body) -> bool:
    """The response that was asked for is none of the conversation's."""
    wanted = body.get("response")
    return isinstance(wanted, dict) and wanted.get("conversation") == "none"


def _speaks_of(body: Body, id_path: str, event: ServerEvent | None) -> bool:
    answered: Any = event
    for name in id_path.split("."):
        answered = getattr(answered, name)
    item = body.get("item")
    asked = item.get("id") if isinstance(item, dict) else body.get("item_id")
    return bool(asked == answered)
