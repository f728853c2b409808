"""Draws the figures: how each time is spread, and how soon answers came as the calls went on."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bridge.client.bench.record import BenchRecord
from bridge.client.bench.report import Report

__all__ = ["draw"]

_FIRST_SOUND = "#0b6e4f"
_TIMES = (
    ("connect", "#7a8b99"),
    ("end of speech → first sound", _FIRST_SOUND),
    ("speech_stopped → first sound", "#e0a030"),
    ("session.update → reply", "#3a6ea5"),
)


def draw(records: Sequence[BenchRecord], report: Report, title: str, path: str) -> None:
    """Writes the picture, in the format that the name of ``path`` stands for."""
    turns = [turn for record in records for turn in record.turns]
    values = (
        [record.connect_ms for record in records],
        [turn.first_sound_ms for turn in turns],
        [turn.after_stopped_ms for turn in turns],
        [turn.round_trip_ms for turn in turns],
    )
    picture = Figure(figsize=(11, 4), dpi=80, layout="constrained")
    FigureCanvasAgg(picture)
    spreads, course = picture.subplots(1, 2)
    for (name, colour), each in zip(_TIMES, values, strict=True):
        known = np.sort([value for value in each if value is not None])
        if known.size:
            percent = 100 * np.arange(1, known.size + 1) / known.size
            spreads.step([known[0], *known], [0, *percent], where="post", color=colour, label=name)
    spreads.set_title("share that was no slower", fontsize=10)
    spreads.set_xscale("log")
    spreads.set_xlabel("ms", fontsize=8)
    spreads.set_ylabel("%", fontsize=8)
    if spreads.lines:
        spreads.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2, frameon=False)
    answers = [(turn.spoken_at_s, turn.first_sound_ms) for turn in turns if turn.first_sound_ms is not None]
    if answers:
        course.plot(*zip(*answers, strict=True), "o", color=_FIRST_SOUND, markersize=3)
    course.set_title("end of speech → first sound, in the course of the calls", fontsize=10)
    course.set_xlabel("s", fontsize=8)
    course.set_ylabel("ms", fontsize=8)
    course.set_ylim(0, 1.1 * max((ms for _, ms in answers), default=1))
    for axes in (spreads, course):
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    result = f"{report.came_through} of {report.calls} calls succeeded."
    if report.client.was_late:
        result += " The measuring process itself was late."
    picture.suptitle(f"{fill(title, 130)}\n{result}", fontsize=10)
    picture.savefig(path)
