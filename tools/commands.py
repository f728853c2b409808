"""The command line as Markdown, made from its parsers, and the figures by which ``bridge calls`` judges a call."""

import argparse
from collections.abc import Iterator

from bridge.cli import whole_parser
from bridge.client.operators.quality import FIGURES
from bridge.doctor.table import EXAMINATIONS
from tools.schemas import cell

__all__ = ["commands_text", "examinations_table", "figures_table"]

_OWN_GROUPS = 2  # positional arguments and options; the groups behind them are settings


def commands_text() -> str:
    """Each command: how it is called, what it is for, and its flags but for the settings."""
    return "\n".join(line for name, parser in _commands(whole_parser(), "") for line in _command(name, parser))


def figures_table() -> str:
    """Each figure of a call, and what it says if it is high."""
    rows = [f"| `{one.name}` | {cell(one.meaning)} | {cell(one.cause)} |" for one in FIGURES]
    return "\n".join(["| figure | meaning | if it is high |", "|---|---|---|", *rows])


def examinations_table() -> str:
    """What ``bridge doctor`` looks at."""
    rows = [f"| `{row.name}` | {cell(row.meaning)} |" for row in EXAMINATIONS]
    return "\n".join(["| | what is looked at |", "|---|---|", *rows])


def _commands(parser: argparse.ArgumentParser, prefix: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that has no others below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _commands(inner, f"{prefix}{name} ")
            return
    yield prefix.strip(), parser


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## bridge {name}", "", f"`{(parser.usage or '').strip()}`", "")
    yield from ((parser.description or "").strip(), "")
    groups = [group for group in parser._action_groups if group._group_actions]
    own = [action for group in parser._action_groups[:_OWN_GROUPS] for action in group._group_actions]
    rows = [_row(action) for action in own if not isinstance(action, argparse._HelpAction)]
    yield from ("| argument | meaning |", "|---|---|", *rows, "")
    if any(group not in parser._action_groups[:_OWN_GROUPS] for group in groups):
        yield from ("Each [setting](settings.md) is a flag as well.", "")


def _row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest)
    names = " ".join(
        [*action.option_strings[-1:], value.upper() if not action.metavar and not action.choices else value]
    )
    meaning = (action.help or "").replace("%%", "%")
    return f"| `{cell(names)}` | {cell(meaning)} |"
