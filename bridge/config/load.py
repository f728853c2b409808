"""Reads settings from the defaults, the TOML file, the environment and flags; a later one of these wins.

Each value is converted and checked on its own. A bad one is refused with a single line that names the setting and where
it came from, even if a later source would win. Then the sections are checked together.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import msgspec

from bridge.config.config import Config
from bridge.config.fields import FILE_SUFFIX, PREFIX, Section, Setting, flag_of, settings_of
from bridge.config.rooms import ROOMS
from bridge.config.words import fault_of_table, must_be
from bridge.errors import ConfigError

__all__ = ["SettingsReading", "Sources", "load", "of_flat"]

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_KUBERNETES_NAME = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")

_OF_CLIENTS = frozenset({"BRIDGE_URL"})  # commands that ask a bridge find its URL there


def load(
    argv_values: Mapping[str, Any],
    environ: Mapping[str, str],
    config_path: str | None,
    carriers: Iterable[type[Section]] = (),
) -> Config:
    """Returns the settings of this start; raises ``ConfigError``.

    Of ``argv_values`` it reads only the names of settings.
    """
    return Sources(argv_values, environ, config_path, tuple(carriers)).load()


def of_flat(values: Mapping[str, Any], carriers: Iterable[type[Section]] = ()) -> Config:
    """Returns the settings with these values by their names, taken as they are.

    Raises ``TypeError`` if a name is no setting's.
    """
    sections = (*ROOMS, *carriers)
    settings = settings_of(sections)
    if strangers := values.keys() - settings.keys():
        raise TypeError(f"no such settings: {', '.join(sorted(strangers))}")
    made = {
        kind: kind(**{name: value for name, value in values.items() if settings[name].section is kind})
        for kind in sections
    }
    rooms = {kind.section: made[kind] for kind in ROOMS}
    return Config(**rooms, carriers=tuple(made[kind] for kind in sections if kind not in ROOMS))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SettingsReading:
    """What the sources gave when they were read."""

    config: Config | None = None
    """The settings; None if anything is wrong."""
    faults: tuple[ConfigError, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where the value of a setting came from. A setting that is not here has its default."""


@dataclass(frozen=True)
class Sources:
    """The sources of the settings, which can be read again and again."""

    argv_values: Mapping[str, Any]
    environ: Mapping[str, str]
    config_path: str | None
    carriers: tuple[type[Section], ...] = ()

    def load(self) -> Config:
        """Returns the settings as they are now; raises ``ConfigError``, which names the first that is wrong."""
        reading = self.read()
        if reading.config is None:
            raise reading.faults[0]
        return reading.config

    def read(self) -> SettingsReading:
        """Returns the settings as they are now, or all that is wrong with them."""
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        faults: list[ConfigError] = []
        try:
            for given in self._all_given():
                try:
                    opened = self._opened(given)
                    values[opened.name] = self._converted(opened)
                    origins[opened.name] = opened.origin
                except ConfigError as fault:
                    faults.append(fault)
        except ConfigError as fault:
            faults.append(fault)
        if faults:
            return SettingsReading(faults=tuple(faults))
        config = of_flat(values, self.carriers)
        faults += (_refusal(name, reason, origins.get(name, "default")) for name, reason in config.faults())
        return SettingsReading(None if faults else config, tuple(faults), origins)

    @property
    def ignored(self) -> list[str]:
        """The environment variables that look like settings, but describe a service ``bridge`` of Kubernetes."""
        return [
            name for name, text in self.environ.items() if name.startswith(PREFIX) and _is_of_kubernetes(name, text)
        ]

    @cached_property
    def _sections(self) -> dict[str, type[Section]]:
        return {kind.section: kind for kind in (*ROOMS, *self.carriers)}

    @cached_property
    def _settings(self) -> dict[str, Setting]:
        return settings_of(self._sections.values())

    def _all_given(self) -> Iterator["_Given"]:
        """Yields every value that was given; the last one of a name wins."""
        if self.config_path is not None:
            yield from self._of_file(self.config_path)
        for variable, text in self.environ.items():
            # An empty variable counts as unset: container tools pass on variables that nobody has set in that form.
            is_ours = variable.startswith(PREFIX) and variable not in _OF_CLIENTS
            if is_ours and text and not _is_of_kubernetes(variable, text):
                yield _Given(variable.removeprefix(PREFIX).lower(), text, f"environment {variable}")
        for name, value in self.argv_values.items():
            if (name in self._settings or self._is_secret_file(name)) and value is not None:
                yield _Given(name, value, f"flag {flag_of(name)}")

    def _of_file(self, path: str) -> Iterator["_Given"]:
        """Yields the file's values, whether they are at the top level or in the table of their section."""
        seen: set[str] = set()
        origin = f"file {path}"
        for key, value in _read_file(path).items():
            is_section = isinstance(value, dict) and key in self._sections
            for name, inner in self._of_table(self._sections[key], value) if is_section else ((key, value),):
                if name in seen:
                    raise _refusal(name, "it is set there twice", origin)
                seen.add(name)
                yield _Given(name, inner, origin, is_text=False)

    def _of_table(self, section: type[Section], table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yields whole names.

        In a table, the name of its section may be left out: ``level`` in ``[log]`` is ``log_level``.
        """
        own = settings_of([section])
        for key, value in table.items():
            names = (key, f"{section.section}_{key}")
            known = [name for name in names if name.removesuffix(FILE_SUFFIX) in own or name in own]
            yield known[0] if known else f"{section.section}.{key}", value

    def _is_secret_file(self, name: str) -> bool:
        secret = self._settings.get(name.removesuffix(FILE_SUFFIX)) if name.endswith(FILE_SUFFIX) else None
        return secret is not None and secret.is_secret

    def _opened(self, given: "_Given") -> "_Given":
        """Reads a secret whose value is the path of a file. If there may be several, each has a line of the file."""
        if not self._is_secret_file(given.name):
            return given
        try:
            text = Path(str(given.value)).read_text().strip()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise _refusal(given.name, f"cannot read {given.value}: {reason}", given.origin) from None
        if not text:
            raise _refusal(given.name, f"{given.value} is empty", given.origin)
        name = given.name.removesuffix(FILE_SUFFIX)
        value = text.split() if self._settings[name].is_list else text
        return _Given(name, value, f"file {given.value}, {given.origin}", is_text=False)

    def _converted(self, given: "_Given") -> Any:
        """Returns the value in its setting's type and limits; raises ``ConfigError``."""
        setting = self._settings.get(given.name)
        if setting is None:
            raise _refusal(given.name, f"unknown setting{self._hint(given.name)}", given.origin)
        value = given.value
        if setting.is_list and isinstance(value, str) and given.is_text:
            value = [part for part in map(str.strip, value.split(",")) if part]
            if not value:
                raise _refusal(given.name, "is set but empty", given.origin)
        if setting.words and isinstance(value, str):
            value = setting.aliases.get(value.lower(), value.lower())
        try:
            return msgspec.convert(value, setting.field.type, strict=not given.is_text)
        except msgspec.ValidationError:
            if setting.is_table:
                reason = fault_of_table(value, get_args(setting.kind)[1])
            else:
                shown = "a value that is not shown" if setting.is_hidden else given.shown
                reason = f"{must_be(setting)}, got {shown}"
            raise _refusal(given.name, reason, given.origin) from None

    def _hint(self, name: str) -> str:
        table, _, inner = name.rpartition(".")
        home = self._settings.get(inner)
        if table and home is not None:
            return f" there; it belongs in [{home.section.section}]"
        closest = get_close_matches(inner, [*self._settings, *(() if table else self._sections)], n=1)
        return f", did you mean {closest[0]}?" if closest else ""


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as somebody wrote it. If it is text, it still has to be read as a number or a list."""

    name: str
    value: Any
    origin: str
    is_text: bool = True

    @property
    def shown(self) -> str:
        """The value on one line, cut to 100 characters, as TOML writes it."""
        value = {True: "true", False: "false"}[self.value] if isinstance(self.value, bool) else repr(self.value)
        return value[:100]


def _is_of_kubernetes(variable: str, text: str) -> bool:
    """Returns whether Kubernetes has set the variable.

    It tells each container of its services: for one called ``bridge``, ``BRIDGE_PORT=tcp://10.0.0.1:8080``.
    """
    return _KUBERNETES_NAME.search(variable) is not None or (
        variable.endswith("_PORT") and _KUBERNETES_PORT.match(text) is not None
    )


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}", param="config") from None
    except ValueError as error:
        raise ConfigError(f"config: {path} is not TOML: {error}", param="config") from None


def _refusal(name: str, reason: str, origin: str) -> ConfigError:
    return ConfigError(f"{name}: {reason} (from {origin})", param=name)
