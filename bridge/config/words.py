"""Says in words which values a setting takes, by its type and limits, for the refusal of a value that does not fit."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec.inspect import (
    BoolType,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    Type,
    UnionType,
    type_info,
)

from bridge.config.fields import Setting

__all__ = ["fault_of_table", "masked", "must_be"]

_USER = re.compile(r"(?<=//)[^@\s?]+@")
_QUERY = re.compile(r"\?.*", re.DOTALL)

_NAMES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
_NAMES |= {"array": "a list", "object": "a table"}


def must_be(setting: Setting) -> str:
    """Returns which values the setting takes, such as ``must be a whole number from 0 to 65535``."""
    if setting.is_list:
        return (
            f"must be a list of {', '.join(setting.words)}" if setting.words else 'must be a list, such as ["a", "b"]'
        )
    return f"must be {_said(type_info(setting.field.type), setting.words)}"


def masked(url: str) -> str:
    """Returns the URL with ``***`` in place of its user, password and query, which may hold secrets."""
    return _QUERY.sub("?***", _USER.sub("***@", url))


def fault_of_table(tables: Any, kind: type[msgspec.Struct]) -> str:
    """Returns what is wrong with the first of the named tables, ``{"name": {…}}``, that is not of ``kind``."""
    if not isinstance(tables, Mapping):
        return "must be named tables, such as [upstreams.NAME]"
    for name, table in tables.items():
        try:
            msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            return _fault_in(str(name)[:100], str(error), kind)
    return "must be named tables"


def _fault_in(name: str, complaint: str, kind: type[msgspec.Struct]) -> str:
    if missing := re.match(r"Object missing required field `(\w+)`", complaint):
        return f"{name} needs {missing[1]}"
    if unknown := re.match(r"Object contains unknown field `(.*?)`", complaint):
        closest = get_close_matches(unknown[1], kind.__struct_fields__, n=1)
        return f"{name} has an unknown field {unknown[1]}" + (f", did you mean {closest[0]}?" if closest else "")
    place = re.search(r"at `\$(.*)`", complaint)
    wanted = re.match(r"Expected `(\w+)`", complaint)
    noun = _NAMES.get(wanted[1], wanted[1]) if wanted else "of another kind"
    rest = " that is not empty" if "length >= 1" in complaint else ""
    return f"{name}{place[1] if place else ''} must be {noun}{rest}"


def _said(kind: Type, words: tuple[str, ...]) -> str:
    match kind:
        case Metadata():
            return _said(kind.type, words)
        case UnionType():
            return _said(next(one for one in kind.types if not isinstance(one, NoneType)), words)
        case LiteralType() | BoolType():
            return f"{', '.join(words[:-1])} or {words[-1]}"
        case IntType():
            return f"a whole number{_range(kind)}"
        case FloatType():
            return f"a number{_range(kind)}"
        case StrType():
            return "text that is not empty" if kind.min_length else "text"
    raise TypeError(f"no words for {kind}")


def _range(kind: IntType | FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:g} to {kind.le:.15g}"
    return "" if kind.ge is None else f" of at least {kind.ge:.15g}"
