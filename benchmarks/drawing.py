"""The figures of ``benchmarks.loss`` as a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.loss import Figures

__all__ = ["draw"]

_COLOURS = {"bridge": "#0b6e4f", "aiortc": "#c8553d"}
_Value = Callable[["Figures"], float]


def draw(figures: list["Figures"], path: Path) -> None:
    """Four panels over loss, two over jitter, the bridge and aiortc in each."""
    picture = Figure(figsize=(11, 6.4), dpi=80, layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(2, 3)
    over_loss = [each for each in figures if each.jitter_ms == 0]
    over_jitter = [each for each in figures if each.loss_percent == 2 and not each.is_bursty]
    quality: _Value = lambda each: each.stoi if each.pesq is None else each.pesq  # noqa: E731
    name = "STOI" if figures[0].pesq is None else "PESQ"
    _over_loss(panels[0, 0], over_loss, quality, f"speech quality ({name})")
    _over_loss(panels[0, 1], over_loss, lambda each: each.delivered_percent, "sound delivered (%)")
    _over_loss(panels[1, 0], over_loss, lambda each: each.delay_p99_ms, "delay p99 (ms)")
    _over_loss(panels[1, 1], over_loss, lambda each: each.longest_gap_ms, "longest gap (ms)")
    _over_jitter(panels[0, 2], over_jitter, quality, f"speech quality ({name}), 2 % loss")
    _over_jitter(panels[1, 2], over_jitter, lambda each: each.delay_p99_ms, "delay p99 (ms), 2 % loss")
    panels[0, 0].legend(fontsize=8)
    picture.savefig(path)


def _over_loss(axes: Axes, figures: list["Figures"], value: _Value, title: str) -> None:
    for receiver, colour in _COLOURS.items():
        for is_bursty in (False, True):
            line = [each for each in figures if each.receiver == receiver and each.is_bursty == is_bursty]
            line.sort(key=lambda each: each.loss_percent)
            label = f"{receiver}, {'bursts of 3' if is_bursty else 'random loss'}"
            _line(axes, [each.loss_percent for each in line], list(map(value, line)), colour, label, is_bursty)
    _finish(axes, title, "packets lost (%)")


def _over_jitter(axes: Axes, figures: list["Figures"], value: _Value, title: str) -> None:
    for receiver, colour in _COLOURS.items():
        line = sorted((each for each in figures if each.receiver == receiver), key=lambda each: each.jitter_ms)
        _line(axes, [each.jitter_ms for each in line], list(map(value, line)), colour, receiver, False)
    _finish(axes, title, "jitter: up to … ms late")


def _line(axes: Axes, x: list[float], y: list[float], colour: str, label: str, is_dashed: bool) -> None:
    axes.plot(x, y, "o--" if is_dashed else "o-", color=colour, label=label, markersize=3, linewidth=1.4)


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
