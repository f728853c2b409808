"""Reads JSON into a type as far as it fits: what fits is kept, the rest is left out, and the first misfit is reported.

Clients and services say more than the bridge knows: new fields, values, kinds of tools and items. A ``Reading`` walks a
JSON value beside the type that the bridge has for it. Null stands for "not given" unless the type itself knows null.
The value is not changed, so whoever relays it still has all of it.
"""

import copy
import functools
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType

from bridge.errors import BadEvent

__all__ = ["MERGED", "Reading", "bad_event"]

MERGED = frozenset({"audio", "input", "output", "noise_reduction"})
"""The objects of a session that an update changes field by field; every other value is replaced as a whole."""

_DEEPER = MERGED | {"session"}  # objects in which a null field asks for its default
_NO_DEFAULTS: Mapping[str, Any] = {}
_PATH = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*?)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.+)`$")
_UNKNOWN_FIELD = re.compile(r"^Object contains unknown field `(.+)`$", re.DOTALL)
_MAX_NAME_CHARS = 64
_MAX_MISFITS = 1000  # if more elements do not fit, their list is given up
_MAX_ELEMENTS = (
    4096  # in all lists of objects of one reading: enough for all items of a conversation with a part in each
)

_S = TypeVar("_S", bound=Struct)


class _Misfit(Exception):
    """Says that a value cannot be read; the object or list around it does without it."""

    def __init__(self, complaint: BadEvent) -> None:
        self.complaint = complaint


class Reading:
    """One reading of one JSON object.

    ``assumed`` holds values for required fields that are missing. ``must_fit`` has the names of the fields that have to
    fit, because the bridge itself acts on them.
    """

    def __init__(self, *, assumed: Mapping[str, Any] = _NO_DEFAULTS, must_fit: frozenset[str] = frozenset()) -> None:
        self.fatal: BadEvent | None = None
        """What is wrong with the first field of ``must_fit`` that does not fit."""
        self.invalid: BadEvent | None = None
        """What is wrong with the first value that does not fit."""
        self.unknown: BadEvent | None = None
        """The first field that the type does not have."""
        self._assumed = assumed
        self._must_fit = must_fit
        self._elements = self._misfits = 0
        self._is_strict = False
        """Whether the value that is being read is in a field of ``must_fit``."""

    def read(
        self, value: Any, kind: type[_S], *, path: str = "", defaults: Mapping[str, Any] = _NO_DEFAULTS
    ) -> _S | None:
        """Returns ``value`` as a ``kind``, or None if a required part of it is missing.

        ``path`` is where the value stands. If a field is null, it gets its value of ``defaults``.
        """
        try:
            return msgspec.convert(self._value(value, _shape(kind), path, defaults), kind)
        except _Misfit as misfit:
            self.invalid = self.invalid or misfit.complaint
        return None

    def _value(self, value: Any, shape: "_Shape", path: str, defaults: Mapping[str, Any] = _NO_DEFAULTS) -> Any:
        if isinstance(value, dict):
            tag = value.get(shape.tag_field)
            kind = shape.structs.get(tag) if tag is None or isinstance(tag, str) else None
            if kind is not None:
                return self._struct(value, kind, path, defaults)
        if shape.element is not None and isinstance(value, list):
            return self._list(value, shape.element, path)
        try:
            msgspec.convert(value, shape.kind)
        except msgspec.ValidationError as error:
            raise _Misfit(bad_event(error, path)) from None
        return value

    def _list(self, value: list[Any], element: "_Shape", path: str) -> list[Any]:
        self._elements += len(value)
        if self._elements > _MAX_ELEMENTS:
            message = f"'{path}' is too long: a message's lists may have {_MAX_ELEMENTS} elements in all."
            raise _Misfit(BadEvent(message, code="array_above_max_length", param=path))
        kept = []
        for index, item in enumerate(value):
            try:
                kept.append(self._value(item, element, f"{path}[{index}]"))
            except _Misfit as misfit:
                self.invalid = self.invalid or misfit.complaint
                self._misfits += 1
                if self._misfits > _MAX_MISFITS:
                    raise
        return kept

    def _struct(
        self, value: dict[str, Any], kind: type[Struct], path: str, defaults: Mapping[str, Any]
    ) -> dict[str, Any]:
        form = _form(kind)
        kept: dict[str, Any] = {}
        for name, item in value.items():
            shape = form.fields.get(name)
            if shape is None:
                if name == form.tag_field:
                    kept[name] = item
                elif self.unknown is None:
                    self.unknown = _unknown_parameter(_joined(path, name[:_MAX_NAME_CHARS]))
            elif item is None and not shape.takes_null:
                if name in defaults:
                    kept[name] = defaults[name]
            else:
                inner = defaults.get(name) if name in _DEEPER else None
                was_strict, self._is_strict = self._is_strict, self._is_strict or name in self._must_fit
                try:
                    kept[name] = self._value(item, shape, _joined(path, name), inner or _NO_DEFAULTS)
                except _Misfit as misfit:
                    self.invalid = self.invalid or misfit.complaint
                    if self._is_strict:
                        self.fatal = self.fatal or misfit.complaint
                self._is_strict = was_strict
        for name in form.required:
            if name not in kept:
                if name not in self._assumed:
                    raise _Misfit(_missing_parameter(_joined(path, name)))
                kept[name] = copy.copy(self._assumed[name])
        return kept


# The types in the form that the reader needs


@dataclass(frozen=True, slots=True)
class _Shape:
    """What may stand in one place of a JSON value."""

    kind: Any
    """The type for msgspec, which judges all values but objects, and lists of objects, that are known here."""
    structs: Mapping[str | None, type[Struct]]
    """The structs by their tags; None is the key of a struct without one."""
    tag_field: str | None
    element: "_Shape | None"
    """The shape of the elements, if the value may be a list of structs."""
    takes_null: bool


@dataclass(frozen=True, slots=True)
class _Form:
    """The fields of one struct."""

    fields: Mapping[str, _Shape]
    required: tuple[str, ...]
    tag_field: str | None


@functools.cache
def _form(kind: type[Struct]) -> _Form:
    fields = msgspec.structs.fields(kind)
    return _Form(
        {field.encode_name: _shape(field.type) for field in fields},
        tuple(field.encode_name for field in fields if field.required),
        kind.__struct_config__.tag_field,
    )


def _shape(kind: Any) -> _Shape:
    alternatives = [one for one in _alternatives(kind) if one is not UnsetType]
    bare = [_bare(one) for one in alternatives]
    structs = [one for one in bare if isinstance(one, type) and issubclass(one, Struct)]
    lists = [_shape(get_args(one)[0]) for one in bare if get_origin(one) is list]
    return _Shape(
        kind=Union[tuple(alternatives)],  # noqa: UP007, as they are counted only now
        structs={one.__struct_config__.tag: one for one in structs},  # type: ignore[misc]
        tag_field=structs[0].__struct_config__.tag_field if structs else None,
        element=next((element for element in lists if element.structs), None),
        takes_null=type(None) in bare or Any in bare,
    )


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        return [one for arg in get_args(kind) for one in _alternatives(arg)]
    return [kind]


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


# Complaints in the protocol's words


def bad_event(error: msgspec.ValidationError, path: str = "") -> BadEvent:
    """Turns msgspec's complaint about what stands at ``path`` into an error; its ``param`` is the path of the field."""
    match = _PATH.match(str(error))
    what, inner = (match[1], match[2] or "") if match else (str(error), "")
    param = f"{path}{inner}" if inner.startswith("[") or not path else _joined(path, inner)
    if missing := _MISSING.match(what):
        return _missing_parameter(_joined(param, missing[1]))
    if extra := _UNKNOWN_FIELD.match(what):
        return _unknown_parameter(_joined(param, extra[1][:_MAX_NAME_CHARS]))
    return BadEvent(f"Invalid value for '{param}': {what}." if param else f"{what}.", param=param or None)


def _missing_parameter(param: str) -> BadEvent:
    return BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def _unknown_parameter(param: str) -> BadEvent:
    return BadEvent(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name
