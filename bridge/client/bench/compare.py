"""Compares two servers that were measured at the same time: each figure of the second as a multiple of the first's."""

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.client.bench.report import Report
from bridge.client.bench.table import ROWS
from bridge.client.screen import BOLD, DIM, Painter

__all__ = ["Ratio", "ratio_lines", "ratios"]

_COLUMNS = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the second server's times compare with the first's: 2 is twice as long. None where the first's is 0."""

    name: str
    p50: float | None
    p95: float | None
    p99: float | None


def ratios(first: Report, second: Report) -> list[Ratio]:
    """Returns a ratio for each time that was measured of both servers."""
    found = []
    for name, key in ROWS:
        one, two = getattr(first, key), getattr(second, key)
        if one is not None and two is not None:
            values = {each: _ratio(getattr(one, each), getattr(two, each)) for each in _COLUMNS}
            found.append(Ratio(name, **values))
    return found


def ratio_lines(found: list[Ratio], paint: Painter) -> Iterator[str]:
    """Yields the lines of a table of ratios."""
    yield paint(DIM, "  second / first".ljust(32) + "".join(name.rjust(8) for name in _COLUMNS))
    for ratio in found:
        cells = "".join(_cell(getattr(ratio, name)).rjust(8) for name in _COLUMNS)
        yield f"  {ratio.name:<30}{paint(BOLD, cells)}"


def _ratio(one: float, two: float) -> float | None:
    return round(two / one, 3) if one else None


def _cell(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"
