"""What becomes of figures: a file, a picture. And the loop in which they are taken."""

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from bridge import log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "add_output_flags", "new_picture", "run", "save"]

COLOURS = {"bridge": "#0b6e4f", "compiled": "#3fa27f", "aiortc": "#c8553d", "pion": "#2f6f9f", "NetEq": "#3b5b92"}
"""Of each server, in all pictures."""

_Result = TypeVar("_Result")


def run(measuring: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs it in the event loop that the daemon has, too; of the log, which would stand among figures, errors alone."""
    log.configure("auto", "error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measuring)


def add_output_flags(parser: argparse.ArgumentParser, *, can_draw: bool = True) -> None:
    """The flags that ``save`` heeds: ``--json``, and ``--png`` of a benchmark that can draw."""
    parser.add_argument("--json", help="path of a file for the figures")
    if can_draw:
        parser.add_argument("--png", help="path of a picture of them")


def save(arguments: argparse.Namespace, figures: Any, draw: Callable[[Any, str], None] | None = None) -> None:
    """Writes the files that the flags ask for."""
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    if draw is not None and arguments.png:
        draw(figures, arguments.png)


def new_picture(width: float, height: float) -> "Figure":
    """An empty picture, in inches of 80 pixels; ``savefig`` needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only who draws needs it
    from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), dpi=80, layout="constrained")
    FigureCanvasAgg(picture)
    return picture
