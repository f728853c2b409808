"""JSON read into a type as far as it fits."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.reading import Reading, bad_event


class Cat(Struct, tag="cat"):
    lives: Annotated[int, Meta(ge=1, le=9)] = 9
    name: str | None = None


class Dog(Struct, tag="dog"):
    tricks: list[str] = []


class House(Struct, kw_only=True):
    number: int
    pets: list[Cat | Dog] | UnsetType = UNSET
    door: Literal["open", "shut"] | Cat | UnsetType = UNSET
    notes: Any = UNSET
    colour: str | UnsetType = UNSET


def _read(value: Any, **options: Any) -> tuple[House | None, Reading]:
    reading = Reading(**options)
    return reading.read(value, House), reading


def test_what_fits_is_read_whole() -> None:
    """Structs by their tags, words, and values of any kind; there is nothing to complain of."""
    value = {
        "number": 1,
        "pets": [{"type": "cat", "name": None}, {"type": "dog"}],
        "door": "open",
        "notes": {"a": [None]},
    }
    house, reading = _read(value)
    assert house == House(number=1, pets=[Cat(), Dog()], door="open", notes={"a": [None]})
    assert (reading.invalid, reading.unknown, reading.fatal) == (None, None, None)


def test_what_does_not_fit_is_left_out() -> None:
    """An element of a list, a field of an element, a field; the first of them is told, and the value is as it was."""
    value = {"number": 1, "pets": [{"type": "owl"}, {"type": "cat", "lives": 10}, 7], "door": "ajar", "colour": None}
    before = msgspec.json.encode(value)
    house, reading = _read(value)
    assert house == House(number=1, pets=[Cat()])
    assert reading.invalid is not None
    assert (reading.invalid.code, reading.invalid.param) == ("invalid_value", "pets[0].type")
    assert msgspec.json.encode(value) == before


def test_what_the_type_does_not_have_is_told_apart() -> None:
    """A field of a newer protocol is unknown, not invalid."""
    house, reading = _read({"number": 1, "pets": [{"type": "cat", "fur": "long"}], "roof": "red"})
    assert house == House(number=1, pets=[Cat()])
    assert reading.invalid is None
    assert reading.unknown is not None
    assert (reading.unknown.code, reading.unknown.param) == ("unknown_parameter", "pets[0].fur")


@pytest.mark.parametrize("value", [{}, {"number": None}, {"number": "one"}, [], None, "house"])
def test_without_what_makes_it_there_is_nothing(value: Any) -> None:
    """A required field that is missing, null or wrong leaves no struct, unless a value is assumed for it."""
    house, reading = _read(value)
    assert house is None
    assert reading.invalid is not None
    if isinstance(value, dict):
        assert _read(value, assumed={"number": 0})[0] == House(number=0)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"number": 1, "door": {"type": "cat", "lives": 0}}, "door.lives"),
        ({"number": 1, "door": {"type": "owl"}}, "door.type"),
        ({"number": 1, "door": 7}, "door"),
    ],
)
def test_what_must_fit(value: Any, param: str) -> None:
    """Whatever is wrong in such a field, however deep, is fatal; what is wrong elsewhere is not."""
    _, reading = _read({**value, "pets": [{"type": "owl"}]}, must_fit=frozenset({"door"}))
    assert reading.fatal is not None
    assert reading.fatal.param == param
    _, reading = _read({**value, "pets": [{"type": "owl"}]}, must_fit=frozenset({"number"}))
    assert reading.fatal is None


def test_null_takes_the_default_where_there_is_one() -> None:
    """Else it is as good as absent; a type that knows null keeps it."""
    house = Reading().read({"number": 1, "colour": None}, House, defaults={"colour": "white"})
    assert house == House(number=1, colour="white")
    assert Reading().read({"number": 1, "notes": None}, House) == House(number=1, notes=None)


def test_misfits_are_left_out_up_to_a_number() -> None:
    """A list of a thousand of them leaves the one that fits; one of more is a misfit itself."""
    pets: list[Any] = [{"type": "owl", "wings": None}] * 1000
    house, _ = _read({"number": 1, "pets": [*pets, {"type": "dog"}]})
    assert house == House(number=1, pets=[Dog()])
    house, reading = _read({"number": 1, "pets": [*pets, {"type": "owl"}, {"type": "dog"}]})
    assert house == House(number=1)
    assert reading.invalid is not None
    assert reading.invalid.param == "pets[0].type"


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        ({"pets": []}, "missing_required_parameter", "house.number"),
        ({"number": 1, "pets": [{"lives": 1}]}, "missing_required_parameter", "house.pets[0].type"),
        ({"number": 1, "pets": 7}, "invalid_value", "house.pets"),
        (7, "invalid_value", "house"),
    ],
)
def test_complaints_name_the_place(value: Any, code: str, param: str) -> None:
    """In the protocol's words, with the path from the outside in."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, House)
    for complaint in (bad_event(caught.value, "house"), _complaint(value)):
        assert (complaint.code, complaint.param) == (code, param)
        assert complaint.message.endswith(".")


def _complaint(value: Any) -> BadEvent:
    reading = Reading()
    reading.read(value, House, path="house")
    assert reading.invalid is not None
    return reading.invalid
