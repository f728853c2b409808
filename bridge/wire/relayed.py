"""Reads the events of other Realtime servers leniently: what the bridge knows of one is typed, and all of it is kept.

A server may say more than the bridge knows: new events, new fields, items of other kinds. None of that is an error. An
event is read into its type without the parts that do not fit, and its body is passed on whole.
"""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.bounds import MAX_EVENT_BYTES, require_few_values, too_large
from bridge.wire.reading import Reading
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["UPSTREAM_PROTOCOL", "AudioDelta", "decode_relayed", "understood"]

UPSTREAM_PROTOCOL = "upstream_protocol"
"""The code of the error about a message that is no event."""


class AudioDelta(Struct):
    """The sound of an answer, in either dialect. It is the one event that is read without a body."""

    type: str
    delta: str | UnsetType = UNSET
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    sample_rate: int | None = None
    channels: int | None = None


_OWN = ("bridge.",)
_KNOWN: dict[str, type[ServerEvent]] = {
    str(kind.__struct_config__.tag): kind
    for kind in ServerEvent.__subclasses__()
    if not str(kind.__struct_config__.tag).startswith(_OWN)
}
# Values for fields that GA always has and a server may leave out: with them, the rest of the event is of use.
_ASSUMED: dict[str, Any] = {
    "arguments": "",
    "call_id": "",
    "content": [],
    "content_index": 0,
    "message": "",
    "name": "",
    "output_index": 0,
    "output_modalities": [],
    "response_id": "",
    "usage": {},
}
_AUDIO_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})
_LONG = frozenset(
    {
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.done",
        "conversation.item.retrieved",
        "response.output_item.added",
        "response.output_item.done",
        "response.done",
    }
)
"""The events that may be over 2 MiB, as sound may, because they carry items."""
_delta_decoder = msgspec.json.Decoder(AudioDelta)
_body_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_relayed(text: bytes | str, audio_deltas: Collection[str] = _AUDIO_DELTAS) -> AudioDelta | Body:
    """Decodes one message of a server; the events of ``audio_deltas`` are those that carry sound.

    Raises ``BadEvent`` if it is no JSON object with a type, or is too large to be read.
    """
    kind = ""
    try:
        delta = _delta_decoder.decode(text)
        kind = delta.type
        if delta.type in audio_deltas and delta.delta is not UNSET:
            return delta
    except msgspec.ValidationError:
        pass  # it is another event, whose ``delta`` or ids are of another type
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadEvent("The upstream sent a message that is not JSON.", code=UPSTREAM_PROTOCOL) from None
    if len(text) > MAX_EVENT_BYTES and kind not in _LONG:
        raise too_large(len(text))
    require_few_values(text)
    try:
        body = _body_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise BadEvent("The upstream sent a message that is not an event.", code=UPSTREAM_PROTOCOL) from None
    if not isinstance(body.get("type"), str):
        raise BadEvent("The upstream sent an event without a type.", code=UPSTREAM_PROTOCOL)
    return body


def understood(body: Body) -> ServerEvent:
    """Returns what the bridge knows of an event, or a bare ``ServerEvent`` if it knows nothing; never raises."""
    kind = _KNOWN.get(body["type"])
    if kind is None:
        return ServerEvent()
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError:
        return Reading(assumed=_ASSUMED).read(body, kind) or ServerEvent()
