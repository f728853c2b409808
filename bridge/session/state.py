"""What is true of one session: its configuration, its conversation, the responses in progress, what it has cost.

There is one state to a session, whoever answers it. It changes in one way only: by the server events that the upstream
delivers (``follow``). An upstream of our own asks it first whether what a client wants may be done: the rules of the
protocol stand here too, and raise ``BadEvent``. So an upstream that is lost can be replaced by another one, which finds
everything here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.session.budget import Budget, size_of
from bridge.session.conversation import Conversation
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.checks import check_choice
from bridge.wire.sessions import AudioConfig, AudioInput, AudioOutput, SessionConfig, TurnDetection, merged

__all__ = ["SessionState"]

_NO_INPUT, _NO_OUTPUT = AudioInput(), AudioOutput()
_READ_ONLY = {"id": UNSET, "object": UNSET, "expires_at": UNSET}
_MAX_BESIDE = 16  # responses of our own engine beside its conversation; each costs work, and stock clients have a few
_SMALL_BYTES = 16_384
_MAX_ID_CHARS = 1024
_MAX_KNOWN = 256  # responses of any server that are taken to be in progress
_WORDS_TO_TOKENS = 4 / 3  # English text has about three words to four tokens


class SessionState:
    """See the module."""

    def __init__(
        self, config: SessionConfig, wanted: server.Body | None = None, *, budget: Budget | None = None
    ) -> None:
        self.budget = budget or Budget()
        """The budget of everything that the session keeps."""
        self.config = config
        self._config_bytes = 0
        self.wanted = wanted or {}
        """The part of the configuration that was asked for, as it was written; the upstream says the rest."""
        self._told: server.Body | None = None
        """The configuration as the upstream wrote it, with what ``config`` does not know."""
        self.conversation = Conversation(self.budget)
        self.responses: dict[str, items.Response] = {}
        """The responses in progress, by id: one in the conversation, and any number beside it."""
        self.is_set_up = False
        """True if a client has updated the session; from then on the model is fixed."""
        self.has_spoken = False
        """True if sound was given out; from then on the voice is fixed."""
        self.usage = items.Usage.of()
        """The usage of all responses so far."""
        self.rate_limits: list[server.RateLimit] = []

    def begin_session(self, config: SessionConfig, wanted: server.Body | None = None) -> None:
        """Sets what the session is opened with; see ``wanted``."""
        self.config = config
        self.wanted = wanted or {}

    def follow(self, event: server.ServerEvent, body: server.Body | None = None) -> BadEvent | None:
        """Makes true what the upstream says; ``body`` is the event as it wrote it, if that is more.

        Returns what of it cannot be kept, and why, if anything.
        """
        if isinstance(event, server.SessionCreated | server.SessionUpdated):
            self._told = None if body is None else body["session"]
        follower = _FOLLOWERS.get(type(event))
        return None if follower is None else follower(self, event)

    def require_bytes(self, message: client.ClientMessage) -> None:
        """Raises ``BadEvent`` if the client's event is more than may be kept of this session."""
        size = size_of(message.body)
        if size > _SMALL_BYTES or isinstance(message.event, client.ConversationItemCreate):
            self.budget.require(size, spare=True)

    # What the session is set to

    @property
    def session(self) -> server.Body:
        """The whole configuration as clients are told it."""
        told: server.Body = msgspec.to_builtins(self.config) if self._told is None else self._told
        return told

    @property
    def input(self) -> AudioInput:
        """What is done with the caller's sound."""
        audio = self.config.audio
        return audio.input if isinstance(audio, AudioConfig) and isinstance(audio.input, AudioInput) else _NO_INPUT

    @property
    def output(self) -> AudioOutput:
        """How answers sound."""
        audio = self.config.audio
        if isinstance(audio, AudioConfig) and isinstance(audio.output, AudioOutput):
            return audio.output
        return _NO_OUTPUT

    @property
    def modalities(self) -> Sequence[str]:
        """The modalities in which answers are given."""
        modalities = self.config.output_modalities
        return modalities if modalities is not UNSET else ["audio"]

    @property
    def turn_detection(self) -> TurnDetection | None:
        """How turns are found; None if the client ends them itself."""
        turns = self.input.turn_detection
        return None if turns is UNSET else turns

    @property
    def lets_speech_interrupt(self) -> bool:
        """Whether a caller who begins to speak stops the answer that is being heard."""
        turns = self.turn_detection
        return turns is None or turns.interrupt_response

    @property
    def has_answers(self) -> bool:
        """Whether the session gives answers; a transcription session does not."""
        return self.config.type != "transcription"

    @property
    def answers_turns(self) -> bool:
        """Whether each turn of the caller is answered without a ``response.create``."""
        turns = self.turn_detection
        return self.has_answers and turns is not None and turns.create_response

    @property
    def response(self) -> items.Response | None:
        """The one in progress in the conversation; those beside it, of which it knows nothing, do not count."""
        return next((known for known in self.responses.values() if known.conversation_id is not None), None)

    # The rules

    def updated(self, update: SessionConfig) -> SessionConfig:
        """The configuration with ``update`` laid over it; what the server alone sets is left as it is.

        Raises ``BadEvent`` for what cannot be changed, and if the whole would not go together.
        """
        self._require_type(update)
        self._require_model(update)
        output = update.audio.output if isinstance(update.audio, AudioConfig) else UNSET
        if self.has_spoken and isinstance(output, AudioOutput) and output.voice not in (UNSET, self.output.voice):
            raise BadEvent(
                "Cannot update a conversation's voice after audio was output.",
                code="cannot_update_voice",
                param="session.audio.output.voice",
            )
        whole = merged(self.config, msgspec.structs.replace(update, **_READ_ONLY))
        check_choice(whole.tool_choice, whole.tools, "session")
        return whole

    def _require_type(self, update: SessionConfig) -> None:
        if update.type not in (UNSET, self.config.type):
            raise BadEvent(
                f"Passing a {update.type} session update event to a {self.config.type} session is not allowed.",
                code="invalid_parameter",
                param="session.type",
            )

    def _require_model(self, update: SessionConfig) -> None:
        """The agents SDKs name a model of their own in their first update, whatever stands in the URL."""
        if self.is_set_up and update.model not in (UNSET, self.config.model):
            raise BadEvent(
                f"The model of this session is '{self.config.model}' and cannot be changed.", param="session.model"
            )

    def require_idle(self, wanted: items.ResponseConfig) -> None:
        """Raises ``BadEvent`` if the response may not begin: one at a time in the conversation, a few beside it."""
        if not self.has_answers:
            raise BadEvent("Transcription sessions have no responses.", param="type")
        active = self.response
        if wanted.is_beside:
            if len(self.responses) - (active is not None) >= _MAX_BESIDE:
                raise BadEvent(
                    f"There are {_MAX_BESIDE} responses in progress beside the conversation, which is the limit. "
                    "Wait until one of them is finished before creating a new one.",
                    code="too_many_active_responses",
                    param="response.conversation",
                )
        elif active is not None:
            raise BadEvent(
                f"Conversation already has an active response in progress: {active.id}. "
                "Wait until the response is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )

    def require_active(self, response_id: str | None) -> str:
        """The id of the response to cancel, which is the conversation's own if None is asked for.

        Raises ``BadEvent`` if it is not in progress.
        """
        active = self.response if response_id is None else self.responses.get(response_id)
        if active is None:
            raise BadEvent("Cancellation failed: no active response found.", code="response_cancel_not_active")
        return active.id

    def require_audio(self, item_id: str, content_index: int) -> None:
        """Raises ``BadEvent`` if there is no assistant's sound to truncate."""
        part = _content(self.conversation.find(item_id), content_index)
        if not isinstance(part, items.OutputAudio):
            raise BadEvent("Only an assistant's audio can be truncated.", param="item_id")

    def require_answerable(self, item: items.Item) -> None:
        """Raises ``BadEvent`` if ``item`` answers what nobody asked."""
        if isinstance(item, items.McpApprovalResponse):
            raise BadEvent(
                f"There is no approval request '{item.approval_request_id}'.", param="item.approval_request_id"
            )
        if isinstance(item, items.FunctionCallOutput) and not any(
            isinstance(other, items.FunctionCall) and other.call_id == item.call_id
            for other in self.conversation.items()
        ):
            raise BadEvent(
                f"Tool call ID '{item.call_id}' not found in conversation.",
                code="invalid_tool_call_id",
                param="item.call_id",
            )

    def history(self, wanted: items.ResponseConfig) -> list[items.Item]:
        """What a response is given of: the conversation, or what it brings and refers to; raises ``BadEvent``."""
        if wanted.input is UNSET:
            return self.conversation.items()
        return [
            self.conversation.find(item.id, param=f"response.input[{index}].id")
            if isinstance(item, items.ItemReference)
            else item
            for index, item in enumerate(wanted.input)
        ]

    def new_response(self, response_id: str, wanted: items.ResponseConfig) -> items.Response:
        """A response as it begins: set as the session is, unless it was asked for otherwise; raises ``BadEvent``."""
        tools = wanted.tools if wanted.tools is not UNSET else self.config.tools
        check_choice(wanted.tool_choice, tools, "response")
        own = items.ResponseAudioOutput(format=self.output.format, voice=self.output.voice)
        if isinstance(wanted.audio, items.ResponseAudio) and isinstance(wanted.audio.output, items.ResponseAudioOutput):
            own = merged(own, wanted.audio.output)
        tokens = wanted.max_output_tokens if wanted.max_output_tokens is not UNSET else self.config.max_output_tokens
        return items.Response(
            id=response_id,
            conversation_id=None if wanted.is_beside else self.conversation.id,
            output_modalities=list(
                wanted.output_modalities if wanted.output_modalities is not UNSET else self.modalities
            ),
            audio=items.ResponseAudio(output=own),
            max_output_tokens=tokens if tokens is not UNSET else "inf",
            metadata=wanted.metadata if wanted.metadata is not UNSET else None,
        )

    def text_tokens(self, history: Sequence[items.Item]) -> int:
        """An estimate of what the words of ``history`` and the instructions cost as input."""
        words = sum(len(_words(item).split()) for item in history)
        instructions = self.config.instructions
        return round((words + len((instructions or "").split())) * _WORDS_TO_TOKENS)

    # What the upstream says

    def _created(self, event: server.SessionCreated) -> None:
        self._set(event.session)

    def _updated(self, event: server.SessionUpdated) -> None:
        self._set(event.session)
        self.is_set_up = True

    def _set(self, config: SessionConfig) -> None:
        """Sets the configuration. It may be big; the bytes that it takes are not there for items."""
        size = size_of(config)
        self.budget.charge(size - self._config_bytes)
        self.config, self._config_bytes = config, size

    def _item_added(self, event: server.ConversationItemAdded | server.ConversationItemDone) -> BadEvent | None:
        previous = event.previous_item_id
        return self.conversation.insert(event.item, self.conversation.last_item_id if previous is UNSET else previous)

    def _item_written(self, event: server.OutputItemDone) -> BadEvent | None:
        """Beta servers say only so that an item is complete."""
        if self.conversation.get(str(event.item.id)) is None:
            return None
        return self.conversation.insert(event.item, None)

    def _item_deleted(self, event: server.ConversationItemDeleted) -> None:
        self.conversation.remove(event.item_id)

    def _item_truncated(self, event: server.ConversationItemTruncated) -> None:
        part = self._part(event.item_id, event.content_index)
        if isinstance(part, items.OutputAudio):
            part.transcript = ""

    def _item_transcribed(self, event: server.InputAudioTranscriptionCompleted) -> BadEvent | None:
        part = self._part(event.item_id, event.content_index)
        if not isinstance(part, items.InputAudio):
            return None
        part.transcript = event.transcript
        return self.conversation.resized(event.item_id)

    def _response_created(self, event: server.ResponseCreated) -> None:
        response = event.response
        if size_of(response) > _SMALL_BYTES:  # nobody asks here what a response says
            response = items.Response(
                id=response.id[:_MAX_ID_CHARS],
                output_modalities=["audio"],
                conversation_id=response.conversation_id and response.conversation_id[:_MAX_ID_CHARS],
            )
        self.responses[response.id] = response
        if len(self.responses) > _MAX_KNOWN:  # a server that never says that one is done
            del self.responses[next(iter(self.responses))]

    def _response_done(self, event: server.ResponseDone) -> None:
        self.responses.pop(event.response.id, None)
        if event.response.usage is not None:
            self.usage = self.usage.plus(event.response.usage)

    def _limited(self, event: server.RateLimitsUpdated) -> None:
        self.rate_limits = event.rate_limits

    def _part(self, item_id: str, content_index: int) -> items.Content | None:
        item = self.conversation.get(item_id)
        return None if item is None else _content(item, content_index)


def _content(item: items.Item, index: int) -> items.Content | None:
    return item.content[index] if isinstance(item, items.Message) and 0 <= index < len(item.content) else None


def _words(item: items.Item) -> str:
    """All words of an item: those that are written, and those that are known to have been said."""
    if isinstance(item, items.FunctionCall):
        return item.arguments
    if isinstance(item, items.FunctionCallOutput):
        return item.output
    return " ".join(_text(part) for part in item.content) if isinstance(item, items.Message) else ""


def _text(part: items.Content) -> str:
    if isinstance(part, items.InputText | items.OutputText):
        return part.text
    if isinstance(part, items.InputAudio | items.OutputAudio):
        return part.transcript or ""
    return ""


_FOLLOWERS: dict[type[server.ServerEvent], Callable[[SessionState, Any], BadEvent | None]] = {
    server.SessionCreated: SessionState._created,
    server.SessionUpdated: SessionState._updated,
    server.ConversationItemAdded: SessionState._item_added,
    server.ConversationItemDone: SessionState._item_added,
    server.OutputItemDone: SessionState._item_written,
    server.ConversationItemDeleted: SessionState._item_deleted,
    server.ConversationItemTruncated: SessionState._item_truncated,
    server.InputAudioTranscriptionCompleted: SessionState._item_transcribed,
    server.ResponseCreated: SessionState._response_created,
    server.ResponseDone: SessionState._response_done,
    server.RateLimitsUpdated: SessionState._limited,
}
