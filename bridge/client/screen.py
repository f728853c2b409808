"""Writes for a person: with colours if they can be shown, one line at a time, and with a bar on a terminal only."""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["BOLD", "DIM", "GREEN", "RED", "YELLOW", "ProgressBar", "Painter", "painter", "printable"]

DIM, BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"

Painter = Callable[[str, str], str]
"""A function that gives a text a style."""


def painter(out: TextIO) -> Painter:
    """Returns a painter for ``out``. If styles would show as garbage there, it leaves text as it is."""
    has_colour = out.isatty() and "NO_COLOR" not in os.environ
    return lambda style, text: f"{style}{text}{_PLAIN}" if has_colour and text else text


def printable(text: str) -> str:
    """Returns the text as one line, with nothing in it that could drive the terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """A bar on standard error, if that is a terminal. It goes when it is closed."""

    monitor_interval = 0  # a bar that moves all the time needs no thread

    def __init__(self, **more: Any) -> None:
        super().__init__(leave=False, disable=None, file=sys.stderr, **more)
