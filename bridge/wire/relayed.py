"""Events of other Realtime servers, read leniently: what is known of one is typed, and all of it is kept.

A server may say more than the bridge knows: new events, new fields, items of other kinds. None of that is an error. An
event is read into its type, less what does not fit, and its body is passed on whole.
"""

import copy
import re
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["AudioDelta", "decode_relayed", "understood"]


class AudioDelta(Struct):
    """The sound of an answer, in either dialect; the one event that is read without a body."""

    type: str
    delta: str | UnsetType = UNSET
    response_id: str = ""
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0


_OWN = ("bridge.",)
_KNOWN: dict[str, type[ServerEvent]] = {
    str(kind.__struct_config__.tag): kind
    for kind in ServerEvent.__subclasses__()
    if not str(kind.__struct_config__.tag).startswith(_OWN)
}
_PATH = re.compile(r" - at `\$\.(.+)`$")
_MAX_MISFITS = 16
_AUDIO_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})
_delta_decoder = msgspec.json.Decoder(AudioDelta)
_body_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_relayed(text: bytes | str) -> AudioDelta | Body:
    """One message of a server; raises ``BadEvent`` where it is no JSON object with a type."""
    try:
        delta = _delta_decoder.decode(text)
        if delta.type in _AUDIO_DELTAS and delta.delta is not UNSET:
            return delta
    except msgspec.ValidationError:
        pass  # another event, with a ``delta`` or an id of its own kind
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadEvent("The upstream sent what is not JSON.", code="upstream_protocol") from None
    try:
        body = _body_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise BadEvent("The upstream sent what is no event.", code="upstream_protocol") from None
    if not isinstance(body.get("type"), str):
        raise BadEvent("The upstream sent an event without a type.", code="upstream_protocol")
    return body


def understood(body: Body) -> ServerEvent:
    """What of an event the bridge knows, a bare ``ServerEvent`` where that is nothing; never raises."""
    kind = _KNOWN.get(body["type"])
    if kind is None:
        return ServerEvent()
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        return _in_part(body, kind, error)


def _in_part(body: Body, kind: type[ServerEvent], error: msgspec.ValidationError) -> ServerEvent:
    """The event less the fields that do not fit, if it can be without them."""
    body = copy.deepcopy(body)
    for _ in range(_MAX_MISFITS):
        match = _PATH.search(str(error))
        if match is None or not _leave_out(body, match[1], kind):
            break
        try:
            return msgspec.convert(body, kind)
        except msgspec.ValidationError as further:
            error = further
    return ServerEvent()


def _leave_out(body: Body, path: str, kind: type[ServerEvent]) -> bool:
    """Removes what stands at msgspec's ``path``; of a list, those of its elements that do not fit."""
    in_list, dots, _ = path.partition("[...]")
    *parents, last = in_list.split(".")
    place: Any = body
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        return False
    if not dots:
        del place[last]
        return True
    before = place[last]
    kept = []
    for element in before:
        place[last] = [element]
        try:
            msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            if f"$.{in_list}[...]" in str(error):
                continue
        kept.append(element)
    place[last] = kept
    return len(kept) < len(before)
