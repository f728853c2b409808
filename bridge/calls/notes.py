"""What is noted of a running call, so that another process can go on with it: who it is, and what was said.

Words stand for sound. An answer that is not complete is not noted: it is owed, and is given anew.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bridge.session.session import Session
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import CallWarning, Dialect, Transport

__all__ = ["CallNotes", "restore"]

_MAX_PICTURE_CHARS = 65_536
_PICTURE = items.InputText(text="(a picture, which is not kept)")


class CallNotes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The notes of one running call, from which another process can go on with it."""

    call_id: str
    session_id: str
    transport: Transport
    model: str
    started_at: float
    key_id: str
    config: SessionConfig
    wanted: dict[str, Any] = {}
    """The session that an upstream is to be asked for: as the last one said that it is, or as it was opened."""
    conversation: list[items.Item] = []
    owes_answer: bool = False
    """Whether an answer was being given, or the caller's last turn has none yet."""
    is_set_up: bool = False
    has_spoken: bool = False
    resume_key: str = ""
    last_event: int = 0
    """The number of the last event that listeners were told."""
    idle_timeout_s: float | None = None
    is_transcription: bool = False
    names_model: bool = True
    dialect: Dialect = Dialect.GA
    temperature: float | None = None
    dtmf_items: bool = False
    warnings: tuple[CallWarning, ...] = ()
    caller: str = ""
    carrier_ids: dict[str, str] = {}
    metadata: dict[str, str] = {}
    """The metadata of the call, without what opens an endpoint."""
    carrier_call: str = ""
    """The carrier's own id of a telephone call, which is the same if the carrier connects it again."""
    token_digests: tuple[str, ...] = ()
    """The digests of the tokens with which the carrier may do that."""

    @classmethod
    def of(cls, session: Session, idle_timeout_s: float | None) -> "CallNotes":
        """Makes the notes of a call as it is now."""
        info, state, context = session.info, session.state, session.context
        kept = [_kept(item) for item in state.conversation.items() if not _is_unfinished(item)]
        secrets = set(context.secrets)
        return cls(
            call_id=info.id,
            session_id=info.session_id,
            transport=info.transport,
            model=info.model,
            started_at=info.started_at,
            key_id=info.key_id,
            config=state.config,
            wanted=state.session if session.audience.is_live else state.wanted,
            conversation=kept,
            owes_answer=state.response is not None or (state.answers_turns and _is_spoken(kept[-1:])),
            is_set_up=state.is_set_up,
            has_spoken=state.has_spoken,
            resume_key=session.lifetime.window.key,
            last_event=session.audience.hub.replay.number,
            idle_timeout_s=idle_timeout_s,
            is_transcription=info.is_transcription,
            names_model=info.names_model,
            dialect=info.dialect,
            temperature=info.temperature,
            dtmf_items=info.dtmf_items,
            warnings=info.warnings,
            caller=context.caller,
            carrier_ids=dict(context.carrier_ids),
            metadata={name: value for name, value in info.metadata.items() if value not in secrets},
            carrier_call=context.carrier_call,
            token_digests=tuple(context.token_digests),
        )


def restore(notes: CallNotes, state: SessionState) -> None:
    """Puts the conversation into a new state, and what depends on it; the configuration is for ``Session.start``."""
    state.is_set_up, state.has_spoken = notes.is_set_up, notes.has_spoken
    for item in notes.conversation:
        state.conversation.insert(item, state.conversation.last_item_id)


def _is_unfinished(item: items.Item) -> bool:
    is_answer = isinstance(item, items.FunctionCall) or (isinstance(item, items.Message) and item.role == "assistant")
    return is_answer and item.status == "in_progress"


def _is_spoken(last: list[items.Item]) -> bool:
    """Whether the caller's sound is the last thing in the conversation."""
    return any(
        isinstance(item, items.Message) and any(isinstance(part, items.InputAudio) for part in item.content)
        for item in last
    )


def _kept(item: items.Item) -> items.Item:
    if not isinstance(item, items.Message):
        return item
    return msgspec.structs.replace(item, content=[_kept_part(part) for part in item.content])


def _kept_part(part: items.Content) -> items.Content:
    if isinstance(part, items.InputAudio | items.OutputAudio):
        return msgspec.structs.replace(part, audio=UNSET)
    if isinstance(part, items.InputImage) and len(part.image_url) > _MAX_PICTURE_CHARS:
        return _PICTURE
    return part
