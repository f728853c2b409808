"""What is written for a person: colours where there are any, one line at a time, and a bar on a terminal only."""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["BOLD", "DIM", "GREEN", "RED", "YELLOW", "Bar", "Painter", "painter", "printable"]

DIM, BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"

Painter = Callable[[str, str], str]
"""Takes a style and a text."""


def painter(out: TextIO) -> Painter:
    """What gives text for ``out`` a style; none where it would show as garbage."""
    has_colour = out.isatty() and "NO_COLOR" not in os.environ
    return lambda style, text: f"{style}{text}{_PLAIN}" if has_colour and text else text


def printable(text: str) -> str:
    """One line, with nothing in it that could drive the terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


class Bar(tqdm):  # type: ignore[type-arg]
    """On standard error, if that is a terminal; gone when it is closed."""

    monitor_interval = 0  # no thread for a bar that is fed all the time

    def __init__(self, **more: Any) -> None:
        super().__init__(leave=False, disable=None, file=sys.stderr, **more)
