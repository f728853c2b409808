"""How a setting is declared: with its type, limits, default and meaning, and when a change of it applies.

A room's settings are the fields of a ``Section``. Their names are unique among all sections, so flags, variables and
the file use the same names.
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
"""The beginning of the names of environment variables."""

FILE_SUFFIX = "_file"
"""The end of a name that stands for the path of a file, which holds the secret of the name before it."""

Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class Applies(StrEnum):
    """When a changed setting takes effect."""

    LIVE = "live"
    """As soon as the settings are read again, also for running calls."""
    NEW_CALLS = "new_calls"
    """For calls and connections that begin after the settings were read again."""
    RESTART = "restart"
    """As soon as the daemon is started again."""


class Fault(NamedTuple):
    """A fault of a setting that its type and limits cannot express."""

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
    the words that the setting takes.
    """
    return Meta(
        description=meaning, extra={"applies": applies, "is_secret": is_secret, "aliases": aliases or {}}, **limits
    )


class Section(Struct, frozen=True, kw_only=True):
    """The settings of one room. They are checked, and never change. Every field has a default."""

    section: ClassVar[str]
    """The name of its table in the file."""
    title: ClassVar[str]
    """What these settings are about, in the help and the reference."""

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Yields what is wrong with these settings, together or beside those of other rooms.

        Each of them is within its own limits already.
        """
        yield from ()

    def fixed_against(self, new: Self) -> set[str]:
        """Returns the settings that cannot become those of ``new`` without a restart, without those that never can."""
        return set()

    def __repr__(self) -> str:
        """Returns all settings; of a secret one it shows only the length."""
        shown = (
            f"{name}=<{len(getattr(self, name) or ())}>" if one.is_hidden else f"{name}={getattr(self, name)!r}"
            for name, one in settings_of([type(self)]).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a section, with all that was declared of it."""

    section: type[Section]
    field: FieldInfo

    @property
    def name(self) -> str:
        """The name of the setting in the file."""
        return self.field.name

    @property
    def flag(self) -> str:
        """The flag of the setting, such as ``--max-calls``."""
        return flag_of(self.name)

    @property
    def variable(self) -> str:
        """The environment variable of the setting, such as ``BRIDGE_MAX_CALLS``."""
        return variable_of(self.name)

    @property
    def applies(self) -> Applies:
        """When a change takes effect."""
        applies: Applies = self._declared.extra["applies"]  # type: ignore[index]
        return applies

    @property
    def is_secret(self) -> bool:
        """Whether the value must be shown to nobody."""
        return bool(self._declared.extra["is_secret"])  # type: ignore[index]

    @property
    def is_hidden(self) -> bool:
        """Whether it is a secret, or a table that may hold one."""
        return self.is_secret or self.is_table

    @property
    def meaning(self) -> str:
        """The meaning of the setting, in a few words."""
        return str(self._declared.description)

    @property
    def kind(self) -> Any:
        """The type of the value, without its ``Annotated``."""
        return self.field.type.__origin__

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.kind) is tuple

    @property
    def is_table(self) -> bool:
        """Whether it is a table, which only the file can hold."""
        return get_origin(self.kind) is dict

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the value may be, or of which it is a list; empty if it may be anything else."""
        kind = get_args(self.kind)[0] if self.is_list else self.kind
        return ("true", "false") if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other spellings of the words."""
        aliases: Mapping[str, str] = self._declared.extra["aliases"]  # type: ignore[index]
        return aliases

    @property
    def default(self) -> str:
        """The default, as the help shows it."""
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
    """Returns all settings of these sections by name, in their order."""
    return {field.name: Setting(section, field) for section in sections for field in msgspec.structs.fields(section)}


def flag_of(name: str) -> str:
    """Returns the flag of a setting, such as ``--max-calls``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting, such as ``BRIDGE_MAX_CALLS``."""
    return PREFIX + name.upper()
