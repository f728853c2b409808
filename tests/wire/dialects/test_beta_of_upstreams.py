"""What an upstream says, on its way to a beta client: translated as far as it goes, and never a fault of ours."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.wire.dialects.beta import Beta, to_beta
from tests.sdk.every_event import BETA_NAMES, every_server_event

_BODIES: dict[str, Any] = {name: msgspec.to_builtins(event) for name, event in every_server_event().items()}
_WITH_SHAPES = [name for name, body in _BODIES.items() if {"session", "item", "response"} & body.keys()]
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "output", "a"]), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", ["response.telepathy.delta", "session.ended", "", "conversation.item.created"])
def test_event_that_nobody_has_heard_of(kind: str) -> None:
    """A GA client may know it, beta's never will."""
    assert to_beta({"type": kind, "event_id": "event_1", "delta": "hm"}, Beta()) is None


@pytest.mark.parametrize("name", BETA_NAMES)
def test_body_instead_of_an_event(name: str) -> None:
    """The same as from the event that it is; what it says beyond that stays."""
    told = to_beta({**copy.deepcopy(_BODIES[name]), "more": 1}, Beta())
    expected = to_beta(every_server_event()[name], Beta())
    assert told == (None if expected is None else {**expected, "more": 1})


@pytest.mark.parametrize("name", _WITH_SHAPES)
def test_null_where_a_shape_belongs(name: str) -> None:
    """Taken for absent."""
    for part in ("session", "item", "response"):
        if part in _BODIES[name]:
            assert (to_beta({**_BODIES[name], part: None}, Beta()) is None) == (BETA_NAMES[name] is None)
    for inner in ("audio", "output", "content"):
        body = {
            key: {**value, inner: None} if isinstance(value, dict) else value for key, value in _BODIES[name].items()
        }
        told = to_beta(body, Beta())
        assert (told is None) == (BETA_NAMES[name] is None)


@given(name=st.sampled_from(_WITH_SHAPES), path=st.lists(st.integers(0, 9), min_size=1, max_size=6), value=_values)
def test_anything_in_any_place(name: str, path: list[int], value: Any) -> None:
    """Translated, or left as it is."""
    body = copy.deepcopy(_BODIES[name])
    place: Any = body
    for step in path[:-1]:
        keys = [key for key in (place if isinstance(place, dict) else range(len(place))) if key != "type"]
        inner = [key for key in keys if isinstance(place[key], dict | list) and place[key]]
        if not inner:
            break
        place = place[inner[step % len(inner)]]
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    key = keys[path[-1] % len(keys)]
    if place is not body or key != "type":
        place[key] = value
    told = to_beta(body, Beta())
    assert (told is None) == (BETA_NAMES[name] is None)
