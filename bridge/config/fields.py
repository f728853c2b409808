"""How a setting is declared, and what is known of it: its type, limits, default, meaning, and when a change applies.

A room's settings are the fields of a ``Section``. Their names are unique among all sections, so that flags, variables
and the file need no other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = [
    "FILE_SUFFIX",
    "PREFIX",
    "Applies",
    "Count",
    "Fault",
    "Port",
    "Positive",
    "Section",
    "Setting",
    "Text",
    "flag_of",
    "setting",
    "settings_of",
    "variable_of",
]

PREFIX = "BRIDGE_"
"""What the names of the environment's variables begin with."""

FILE_SUFFIX = "_file"
"""Behind a secret's name: the path of a file that holds it."""

Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class Applies(StrEnum):
    """When a changed setting takes effect."""

    LIVE = "live"
    """As soon as the settings are read again, for running calls as well."""
    NEW_CALLS = "new_calls"
    """For calls and connections that begin after that."""
    RESTART = "restart"
    """When the daemon is started again."""


class Fault(NamedTuple):
    """What is wrong with a setting, of what no single value can say."""

    setting: str
    reason: str


def setting(
    applies: Applies,
    meaning: str,
    *,
    is_secret: bool = False,
    aliases: Mapping[str, str] | None = None,
    **limits: Any,
) -> Meta:
    """Declares a field of a ``Section``, in its ``Annotated``; ``limits`` are msgspec's, such as ``ge`` and ``le``.

    A secret is shown nowhere, and may also be read from a file: see ``FILE_SUFFIX``. ``aliases`` are other spellings of
    words.
    """
    return Meta(
        description=meaning, extra={"applies": applies, "is_secret": is_secret, "aliases": aliases or {}}, **limits
    )


class Section(Struct, frozen=True, kw_only=True):
    """The settings of one room, checked and never changed. Every field has a default."""

    section: ClassVar[str]
    """The name of its table in the file."""
    title: ClassVar[str]
    """What these settings are about, for the help and the reference."""

    def faults(self, config: "Config") -> Iterator[Fault]:
        """What is wrong with these settings, each by itself in its limits, together or beside those of other rooms."""
        yield from ()

    def fixed_against(self, new: Self) -> set[str]:
        """The settings that cannot become those of ``new`` without a restart, beside those that never can."""
        return set()

    def __repr__(self) -> str:
        """All settings, but of the secret ones only how many there are."""
        shown = (
            f"{name}=<{len(getattr(self, name) or ())}>" if one.is_hidden else f"{name}={getattr(self, name)!r}"
            for name, one in settings_of([type(self)]).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a section."""

    section: type[Section]
    field: FieldInfo

    @property
    def name(self) -> str:
        """As in the file."""
        return self.field.name

    @property
    def flag(self) -> str:
        """``--max-calls``."""
        return flag_of(self.name)

    @property
    def variable(self) -> str:
        """``BRIDGE_MAX_CALLS``."""
        return variable_of(self.name)

    @property
    def applies(self) -> Applies:
        """When a change takes effect."""
        applies: Applies = self._declared.extra["applies"]  # type: ignore[index]
        return applies

    @property
    def is_secret(self) -> bool:
        """Its value is shown to nobody."""
        return bool(self._declared.extra["is_secret"])  # type: ignore[index]

    @property
    def is_hidden(self) -> bool:
        """It is a secret, or a table that may hold one."""
        return self.is_secret or self.is_table

    @property
    def meaning(self) -> str:
        """In a few words."""
        return str(self._declared.description)

    @property
    def kind(self) -> Any:
        """The type, without its ``Annotated``."""
        return self.field.type.__origin__

    @property
    def is_list(self) -> bool:
        """There may be several."""
        return get_origin(self.kind) is tuple

    @property
    def is_table(self) -> bool:
        """It stands in the file only."""
        return get_origin(self.kind) is dict

    @property
    def words(self) -> tuple[str, ...]:
        """Those of which the value is one, or of which a list is made; empty if it may be anything else."""
        kind = get_args(self.kind)[0] if self.is_list else self.kind
        return ("true", "false") if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other spellings of its words."""
        aliases: Mapping[str, str] = self._declared.extra["aliases"]  # type: ignore[index]
        return aliases

    @property
    def default(self) -> str:
        """As the help shows it."""
        value = self.field.default
        if value is msgspec.NODEFAULT or value is None or value == ():
            return "unset"
        if isinstance(value, bool):
            return str(value).lower()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    @property
    def _declared(self) -> Meta:
        declared: Meta = self.field.type.__metadata__[-1]
        return declared


def settings_of(sections: Iterable[type[Section]]) -> dict[str, Setting]:
    """All settings of these sections by name, in their order."""
    return {field.name: Setting(section, field) for section in sections for field in msgspec.structs.fields(section)}


def flag_of(name: str) -> str:
    """The flag of a setting: ``--max-calls``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The variable of a setting: ``BRIDGE_MAX_CALLS``."""
    return PREFIX + name.upper()
