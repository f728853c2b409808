"""Strange servers, as Hypothesis makes them up: any JSON, and events of known names with anything in known places."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from bridge.wire.dialects.beta import BETA_TYPES
from bridge.wire.server_events import ServerEvent

__all__ = ["any_json", "strange_events"]

_KINDS = [kind for kind in ServerEvent.__subclasses__() if kind.__struct_config__.tag]
_NAMES = sorted({str(kind.__struct_config__.tag) for kind in _KINDS} | BETA_TYPES)
_PLACES = sorted(
    {field.name for kind in _KINDS for field in msgspec.structs.fields(kind)}
    | {"content", "role", "id", "status", "output", "audio", "type", "modalities", "voice", "turn_detection"}
)
_WORDS = ["message", "function_call", "user", "assistant", "text", "audio", "input_audio", "completed", "item_1", ""]
_FITTING = [
    {"type": "audio"},
    {"id": "resp_1", "status": "completed", "output": []},
    {"id": "item_1", "type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": "a"}]},
    {"id": "item_1", "type": "function_call", "name": "f", "arguments": "{}"},
    {"type": "server_error", "message": "no"},
    "resp_1",
    "item_1",
    0,
]

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(_WORDS)
)
any_json: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_PLACES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)
strange_events: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda name, fields: {**fields, "type": name},
    st.sampled_from(_NAMES) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(_PLACES), st.sampled_from(_FITTING) | any_json, max_size=6),
)
