"""The fields that every server event must have, in each dialect.

They are taken from the types of the stock SDKs (``openai.types.realtime``, ``openai.types.beta.realtime``) and from
what these SDKs refuse or ignore: an event without these fields reaches no application. An unknown event is no mistake
of the server.
"""

from collections.abc import Mapping

from bridge.client.check.values import ID, NUMBER, TEXT, OneOf, Want, mismatch

__all__ = ["BETA_NAMES", "LIVE_SHAPES", "SHAPES", "flaws", "live_flaws"]

_STRING = Want("a text", str)
_LIST = Want("a list", list)
_OBJECT = Want("an object", dict)
_INDEX = {"output_index": NUMBER, "content_index": NUMBER}
_PART = {"response_id": ID, "item_id": ID, **_INDEX}
_OUTPUT = {"response_id": ID, "output_index": NUMBER}
_RESPONSE = {
    "response.id": ID,
    "response.object": "realtime.response",
    "response.status": TEXT,
    "response.output": _LIST,
}
_ITEM = {"item.id": ID, "item.type": TEXT}
_CALL = {"response_id": ID, "item_id": ID, "output_index": NUMBER, "call_id": ID}
_SESSION = {"session": _OBJECT, "session.id": ID}

SHAPES: dict[str, Mapping[str, object]] = {
    "error": {"error.type": TEXT, "error.message": TEXT},
    "session.created": _SESSION,
    "session.updated": _SESSION,
    "conversation.created": {"conversation.id": ID},
    "conversation.item.added": _ITEM,
    "conversation.item.done": _ITEM,
    "conversation.item.retrieved": _ITEM,
    "conversation.item.deleted": {"item_id": ID},
    "conversation.item.truncated": {"item_id": ID, "content_index": NUMBER, "audio_end_ms": NUMBER},
    "conversation.item.input_audio_transcription.delta": {"item_id": ID},
    "conversation.item.input_audio_transcription.completed": {
        "item_id": ID,
        "content_index": NUMBER,
        "transcript": _STRING,
        "usage.type": OneOf(("tokens", "duration")),
    },
    "conversation.item.input_audio_transcription.failed": {"item_id": ID, "content_index": NUMBER, "error": _OBJECT},
    "input_audio_buffer.committed": {"item_id": ID},
    "input_audio_buffer.cleared": {},
    "input_audio_buffer.speech_started": {"item_id": ID, "audio_start_ms": NUMBER},
    "input_audio_buffer.speech_stopped": {"item_id": ID, "audio_end_ms": NUMBER},
    "output_audio_buffer.started": {"response_id": ID},
    "output_audio_buffer.stopped": {"response_id": ID},
    "output_audio_buffer.cleared": {"response_id": ID},
    "response.created": _RESPONSE,
    "response.done": _RESPONSE,
    "response.output_item.added": {**_OUTPUT, **_ITEM},
    "response.output_item.done": {**_OUTPUT, **_ITEM},
    "response.content_part.added": {**_PART, "part.type": OneOf(("audio", "text"))},
    "response.content_part.done": {**_PART, "part.type": OneOf(("audio", "text"))},
    "response.output_text.delta": {**_PART, "delta": _STRING},
    "response.output_text.done": {**_PART, "text": _STRING},
    "response.output_audio_transcript.delta": {**_PART, "delta": _STRING},
    "response.output_audio_transcript.done": {**_PART, "transcript": _STRING},
    "response.output_audio.delta": {**_PART, "delta": TEXT},
    "response.output_audio.done": _PART,
    "response.function_call_arguments.delta": {**_CALL, "delta": _STRING},
    "response.function_call_arguments.done": {**_CALL, "name": TEXT, "arguments": _STRING},
    "rate_limits.updated": {"rate_limits": _LIST},
}
"""For GA's name of each event: the path of each field, and what it must be. Every event also has an ``event_id``."""

BETA_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
}
"""GA's names that differ in beta. Beta does not know ``conversation.item.done``."""
_LIVE_SESSION = {"session.id": ID, "session.model": TEXT, "session.status": "active"}
_SPAN = {"start_ms": NUMBER, "end_ms": NUMBER}

LIVE_SHAPES: dict[str, Mapping[str, object]] = {
    "error": {"error.type": TEXT, "error.message": TEXT},
    "session.started": _LIVE_SESSION,
    "session.updated": _LIVE_SESSION,
    "session.closed": {**_LIVE_SESSION, "reason": TEXT, "usage.seconds": NUMBER},
    "session.input_audio.muted": {},
    "session.input_audio.unmuted": {},
    "session.instructions.appended": _SPAN,
    "session.thinking.appended": _SPAN,
    "session.commentary.appended": _SPAN,
    "session.output_audio.delta": {"delta": TEXT},
    "session.input_audio.append": {"audio": TEXT},
    "session.input_transcript.delta": {"delta": _STRING, **_SPAN},
    "session.output_transcript.delta": {"delta": _STRING, **_SPAN},
    "session.delegation.created": {"delegation.id": ID, "delegation.type": "delegation", "offset_ms": NUMBER},
    "session.usage.updated": {"usage.seconds": NUMBER},
    "response.event": {"event": _OBJECT},
}
"""The same for the events of the Live API."""

_LIVE_WITHOUT_ID = ("session.output_audio.delta", "session.input_audio.append")
_GA_NAMES = {beta: ga for ga, beta in BETA_NAMES.items()}
_NO_EVENT_ID = ("input_audio_buffer.dtmf_event_received",)
_NOT_IN_BETA = {"response.function_call_arguments.done": ("name",)}


def flaws(event: dict[str, object], *, is_beta: bool) -> list[str]:
    """Returns in words what a server event lacks. An event that is not known here lacks at most its ``event_id``."""
    kind = str(event.get("type"))
    found = [] if kind in _NO_EVENT_ID else [mismatch(event, "event_id", ID)]
    name = _GA_NAMES.get(kind, kind) if is_beta else kind
    passed_over = _NOT_IN_BETA.get(name, ()) if is_beta else ()
    if not is_beta and kind in _GA_NAMES:
        found.append(f"{kind} is beta's name of {_GA_NAMES[kind]}")
    if is_beta and kind in BETA_NAMES:
        found.append(f"{kind} is GA's name of {BETA_NAMES[kind]}")
    fields = SHAPES.get(name, {})
    found += [mismatch(event, path, wanted) for path, wanted in fields.items() if path not in passed_over]
    return [words for words in found if words]


def live_flaws(event: dict[str, object]) -> list[str]:
    """Returns in words what a server event of the Live API lacks."""
    kind = str(event.get("type"))
    found = [] if kind in _LIVE_WITHOUT_ID else [mismatch(event, "event_id", ID)]
    found += [mismatch(event, path, wanted) for path, wanted in LIVE_SHAPES.get(kind, {}).items()]
    return [words for words in found if words]
