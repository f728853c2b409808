"""The words of Realtime translations: their session, what clients say, and what the service says.

A translation has no turns, no items and no responses: sound goes in, and sound in another language comes out, with the
words of both. The service judges what clients say; the bridge understands only what it has to.
"""

import contextlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.bounds import MAX_EVENT_BYTES
from bridge.wire.checks import require_shallow, require_tellable
from bridge.wire.client_events import (
    ClientEvent,
    ClientMessage,
    InputAudioBufferAppend,
    OtherEvent,
    id_in,
    message_of,
    read_event,
)
from bridge.wire.reading import Reading, bad_event
from bridge.wire.sessions import NoiseReduction, SessionConfig, SessionRequest

__all__ = [
    "APPEND",
    "CLIENT_EVENTS",
    "CLOSE",
    "CLOSED",
    "OUTPUT_AUDIO_DELTA",
    "SERVER_EVENTS",
    "TranslationConfig",
    "TranslationSession",
    "read_translation",
    "read_translation_message",
]

APPEND = "session.input_audio_buffer.append"
OUTPUT_AUDIO_DELTA = "session.output_audio.delta"
CLOSE = "session.close"
CLOSED = "session.closed"


class SourceTranscription(Struct, frozen=True):
    """Asks for the words that were said, beside those of the translation."""

    model: str


class TranslationInput(Struct, frozen=True):
    """What is done with the sound that comes in."""

    transcription: SourceTranscription | None | UnsetType = UNSET
    noise_reduction: NoiseReduction | None | UnsetType = UNSET


class TranslationOutput(Struct, frozen=True):
    """The translation that comes out."""

    language: Annotated[str, Meta(description="the language of the translation, such as `de`")] | None | UnsetType = (
        UNSET
    )


class TranslationAudio(Struct, frozen=True):
    """Both directions of a translation's sound; its format is always PCM16 at 24 kHz, mono."""

    input: TranslationInput | UnsetType = UNSET
    output: TranslationOutput | UnsetType = UNSET


class TranslationConfig(Struct, frozen=True, kw_only=True):
    """A translation as it is asked for."""

    model: str
    type: Literal["translation"] | UnsetType = UNSET
    audio: TranslationAudio | UnsetType = UNSET


class TranslationSession(Struct, frozen=True, kw_only=True):
    """A translation as its service describes it."""

    id: str
    type: Literal["translation"] = "translation"
    model: str
    expires_at: int
    audio: TranslationAudio


def read_translation(body: Any, path: str = "session") -> SessionRequest:
    """Reads a translation that a request asks for. What the bridge does not know of it is left to the service.

    Raises ``BadEvent``, which names the field: ``path`` is where the session stands in the request.
    """
    if not isinstance(body, dict):
        raise BadEvent("A session must be a JSON object.", param=path)
    require_tellable(body, path)
    reading = Reading()
    config = reading.read(body, TranslationConfig, path=path)
    if reading.invalid is not None or config is None:
        raise reading.invalid.anew() if reading.invalid else BadEvent("A session must be a JSON object.", param=path)
    if not config.model:
        raise BadEvent("A model's name must not be empty.", param=f"{path}.model")
    return SessionRequest(SessionConfig(type="translation", model=config.model), {**body, "type": "translation"})


# What clients say


class _Event(Struct, kw_only=True, tag_field="type"):
    event_id: Annotated[str, Meta(max_length=512)] | None = None


class TranslationUpdate(Struct, kw_only=True):
    """What of a translation may change while it runs."""

    audio: TranslationAudio | UnsetType = UNSET


class TranslationUpdateEvent(_Event, kw_only=True, tag="session.update"):
    """Changes the language, the transcript of what is said, or the noise reduction; answered by ``session.updated``."""

    session: TranslationUpdate


class TranslationAppend(_Event, kw_only=True, tag=APPEND):
    """Brings sound as base64: PCM16 at 24 kHz, mono. Silence is sent too, because it is what passes the time."""

    audio: str


class TranslationClose(_Event, kw_only=True, tag=CLOSE):
    """Ends the translation: what is left of it comes, and then ``session.closed``."""


CLIENT_EVENTS = (TranslationUpdateEvent, TranslationAppend, TranslationClose)
"""All that a client may say, for the description of the API."""

_append_decoder = msgspec.json.Decoder(TranslationAppend)
_OWN = frozenset({"session.update", "bridge.flow.pause", "bridge.flow.resume", "bridge.mark"})
_OF_REALTIME = frozenset(str(kind.__struct_config__.tag) for kind in ClientEvent.__args__) - _OWN


def read_translation_message(text: bytes | str) -> ClientMessage:
    """Reads a client's message.

    An append becomes the same event as in any other session; what the service is to judge is kept as it was written.
    Raises ``BadEvent``, which names the field.
    """
    if len(text) <= MAX_EVENT_BYTES:
        with contextlib.suppress(msgspec.DecodeError, RecursionError):  # what follows says so in the protocol's words
            return _append_message(_append_decoder.decode(text))
    return read_event(text, _message_in, append=APPEND, may_be_long=frozenset())


def _append_message(append: TranslationAppend) -> ClientMessage:
    return ClientMessage(InputAudioBufferAppend(audio=append.audio, event_id=append.event_id), {})


def _message_in(body: Any) -> ClientMessage:
    """Reads a client's message that is plain JSON; raises ``BadEvent``."""
    kind = body.get("type") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(kind, str) or kind.startswith("bridge."):
        return message_of(body)
    if kind == APPEND:
        try:
            return _append_message(msgspec.convert(body, TranslationAppend))
        except msgspec.ValidationError as error:
            raise bad_event(error) from None
    if kind in _OF_REALTIME:
        raise BadEvent(
            f"'{kind}' is an event of Realtime sessions; a translation accepts session.update, {APPEND} and {CLOSE}.",
            param="type",
        )
    require_shallow(body)
    event_id = body.get("event_id")
    if event_id is not None and id_in(body) != event_id:
        raise BadEvent("An event_id must be a string of at most 512 characters.", param="event_id")
    return ClientMessage(OtherEvent(event_id=event_id), body)


# What the service says


class _ServerEvent(Struct, kw_only=True, tag_field="type"):
    event_id: str


class TranslationCreated(_ServerEvent, kw_only=True, tag="session.created"):
    """The first event of every socket and data channel."""

    session: TranslationSession


class TranslationUpdated(_ServerEvent, kw_only=True, tag="session.updated"):
    """Answers a ``session.update`` with the whole configuration."""

    session: TranslationSession


class TranslationClosed(_ServerEvent, kw_only=True, tag=CLOSED):
    """The translation is over, and nothing of it is left to come."""


class TranslationAudioDelta(_ServerEvent, kw_only=True, tag=OUTPUT_AUDIO_DELTA):
    """A piece of the translation's sound, of any length; over WebRTC it is on the track instead."""

    delta: str
    elapsed_ms: Annotated[int, Meta(description="length of the translation's sound before this")] | UnsetType = UNSET
    sample_rate: int | UnsetType = UNSET
    channels: int | UnsetType = UNSET
    format: Literal["pcm16"] | UnsetType = UNSET


class TranslatedTranscriptDelta(_ServerEvent, kw_only=True, tag="session.output_transcript.delta"):
    """A piece of the translation's words; pieces are joined as they are."""

    delta: str
    elapsed_ms: int | None | UnsetType = UNSET


class SourceTranscriptDelta(_ServerEvent, kw_only=True, tag="session.input_transcript.delta"):
    """A piece of the words that were said, if ``audio.input.transcription`` asks for them."""

    delta: str
    elapsed_ms: int | None | UnsetType = UNSET


class HeardTranslationInput(_ServerEvent, kw_only=True, tag=APPEND):
    """The sound that comes in, for listeners that have asked for sound."""

    audio: str


SERVER_EVENTS = (
    TranslationCreated,
    TranslationUpdated,
    TranslationClosed,
    TranslationAudioDelta,
    TranslatedTranscriptDelta,
    SourceTranscriptDelta,
    HeardTranslationInput,
)
"""All that the service says but its errors, which are Realtime's; for the description of the API."""
