"""Lets a benchmark be first in line for the cores of a machine that does other work as well."""

import contextlib
import os
from collections.abc import Iterator

__all__ = ["first_in_line"]


@contextlib.contextmanager
def first_in_line() -> Iterator[bool]:
    """Until the end of the block this process comes before others, and so does what it starts; yields whether it does.

    Only root may do so (``SCHED_RR``, sched(7)); without, and where the system has no such thing, nothing changes.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
