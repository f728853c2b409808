"""Makes the command line's flags and the reference's tables from the declarations of the settings."""

import argparse
from collections.abc import Iterable

from bridge.config.fields import FILE_SUFFIX, Section, flag_of, settings_of, variable_of
from bridge.config.rooms import ROOMS

__all__ = ["add_flags", "settings_table"]


def add_flags(parser: argparse.ArgumentParser, carriers: Iterable[type[Section]] = ()) -> None:
    """Adds one flag for each setting, in a group for each section.

    A flag that is not given leaves nothing in the namespace.
    """
    for section in (*ROOMS, *carriers):
        group = parser.add_argument_group(section.title)
        for name, one in settings_of([section]).items():
            if one.is_table:
                continue
            group.add_argument(
                one.flag,
                dest=name,
                action="append" if one.is_list else "store",
                default=argparse.SUPPRESS,
                metavar="|".join(one.words) or "VALUE",
                help=f"{one.meaning} (default: {one.default})".replace("%", "%%"),
            )
            if one.is_secret:
                group.add_argument(
                    flag_of(name + FILE_SUFFIX),
                    default=argparse.SUPPRESS,
                    metavar="PATH",
                    help=f"file that holds {one.flag}",
                )


def settings_table(carriers: Iterable[type[Section]] = ()) -> str:
    """Returns all settings as tables in Markdown, one for each section, for docs/reference/settings.md."""
    lines: list[str] = []
    for section in (*ROOMS, *carriers):
        head, _, rest = section.title.partition(":")
        lines += [
            f"## {head[0].upper()}{head[1:]}{':' if rest else ''}{rest}",
            "",
            f"Table in the file: `[{section.section}]`.",
            "",
            "| flag | environment | default | a change applies | meaning |",
            "|---|---|---|---|---|",
        ]
        for name, one in settings_of([section]).items():
            meaning = one.meaning
            if one.is_list:
                meaning += "; repeatable, separated by commas in the environment"
            flag, variable = f"`{one.flag}`", f"`{one.variable}`"
            if one.is_table:
                flag, variable = f"`[{name}.NAME]`", ""
            if one.is_secret:
                meaning += (
                    f"; `{flag_of(name + FILE_SUFFIX)}`, `{variable_of(name + FILE_SUFFIX)}`: a file that holds it"
                )
            lines.append(f"| {flag} | {variable} | {one.default} | {one.applies} | {meaning} |")
        lines.append("")
    return "\n".join(lines)
