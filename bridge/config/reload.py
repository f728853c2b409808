"""Compares the settings in force with those that were read again, and says which of them can take effect now."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from bridge.config.config import Config
from bridge.config.fields import Applies, Section, settings_of

__all__ = ["Changes", "changed"]


class Changes(Struct, frozen=True, kw_only=True):
    """The names of settings that differ, by when they apply."""

    live: tuple[str, ...] = ()
    """Those that have taken effect already, also for running calls."""
    new_calls: tuple[str, ...] = ()
    """Those that take effect for calls and connections which begin from now on."""
    restart: tuple[str, ...] = ()
    """Those that need a restart of the daemon; until then the old values hold."""


def changed(now: Config, read: Config, fixed: Iterable[str] = ()) -> tuple[Config, Changes]:
    """Returns the settings that can hold without a restart, and in what ``read`` differs from ``now``.

    ``fixed`` are settings that need a restart this time, whatever they declare.
    """
    names: dict[Applies, list[str]] = {applies: [] for applies in Applies}
    for_restart = set(fixed)
    sections = []
    for old in now.sections:
        new = read.of(type(old))
        for_restart |= old.fixed_against(new)
        kept = {}
        for name, one in settings_of([type(old)]).items():
            if getattr(old, name) == getattr(new, name):
                continue
            applies = Applies.RESTART if name in for_restart else one.applies
            names[applies].append(name)
            if applies is Applies.RESTART:
                kept[name] = getattr(old, name)
        sections.append(replace(new, **kept))
    changes = Changes(
        live=tuple(names[Applies.LIVE]),
        new_calls=tuple(names[Applies.NEW_CALLS]),
        restart=tuple(names[Applies.RESTART]),
    )
    return _composed(now, sections), changes


def _composed(now: Config, sections: list[Section]) -> Config:
    """Returns ``now`` with these sections, which are in the same order."""
    rooms = [name for name in now.__struct_fields__ if name != "carriers"]
    return Config(**dict(zip(rooms, sections, strict=False)), carriers=tuple(sections[len(rooms) :]))  # type: ignore[arg-type]
