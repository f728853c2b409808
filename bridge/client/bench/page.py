"""Writes a benchmark as one HTML page that stands alone: the tables, how the times are spread, and what went wrong."""

import html
from collections.abc import Sequence

from bridge.client.bench.compare import Ratio
from bridge.client.bench.record import BenchRecord
from bridge.client.bench.report import Report, Spread
from bridge.client.bench.table import ROWS

__all__ = ["as_page"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 220, 40, 30
_COLOURS = ("var(--one)", "var(--two)")
_MOST_POINTS = 400
_TIMES = (("end of speech → first sound", "first_sound_ms"), ("session.update → reply", "round_trip_ms"))


def as_page(title: str, runs: Sequence[tuple[str, Report, Sequence[BenchRecord]]], ratios: Sequence[Ratio]) -> str:
    """Returns the page. ``runs`` has each server's name, figures and calls; ``ratios`` compare the second with the
    first.
    """
    parts = [_key(name, number) + _table(told) + _facts(told) for number, (name, told, _) in enumerate(runs)]
    if ratios:
        parts.insert(0, _compared(ratios))
    for name, field in _TIMES:
        values = [_values(records, field) for _, _, records in runs]
        if any(values):
            parts.append(f"<h2>{html.escape(name)}</h2>{_spread(values)}")
    return _PAGE.format(title=html.escape(title), parts="\n".join(parts))


def _key(name: str, number: int) -> str:
    return f'<h2><i style="background:{_COLOURS[number]}"></i> {html.escape(name)}</h2>'


def _table(told: Report) -> str:
    rows = "".join(_row(name, getattr(told, key)) for name, key in ROWS if getattr(told, key) is not None)
    head = "<th>ms<th>p50<th>p95<th>p99<th>max<th>count"
    return f"<div class=wide><table><thead><tr>{head}</thead>{rows}</table></div>" if rows else ""


def _row(name: str, spread: Spread) -> str:
    cells = "".join(f"<td>{getattr(spread, key):g}" for key in ("p50", "p95", "p99", "max", "count"))
    return f"<tr><th>{html.escape(name)}{cells}"


def _compared(ratios: Sequence[Ratio]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(ratio.name)}"
        + "".join("<td>–" if value is None else f"<td>{value:.2f}" for value in (ratio.p50, ratio.p95, ratio.p99))
        for ratio in ratios
    )
    head = "<th>second / first<th>p50<th>p95<th>p99"
    return f"<h2>Compared</h2><div class=wide><table><thead><tr>{head}</thead>{rows}</table></div>"


def _facts(told: Report) -> str:
    facts = [
        f"{told.came_through} of {told.calls} calls succeeded, {told.answered} of {told.turns} turns were answered."
    ]
    if told.packets is not None:
        facts.append(f"{told.packets} packets received, {told.lost} lost.")
    facts += [f"{each.count} × {each.code}: {each.message}" for each in (*told.failures, *told.complaints)]
    if told.client.was_late:
        facts.append("The measuring process itself was late, which adds to these times.")
    return "<ul>" + "".join(f"<li>{html.escape(fact)}" for fact in facts) + "</ul>"


def _values(records: Sequence[BenchRecord], field: str) -> list[float]:
    found = [getattr(turn, field) for record in records for turn in record.turns]
    return sorted(value for value in found if value is not None)


def _spread(runs: Sequence[list[float]]) -> str:
    """Returns a drawing of how many of the times were no longer than a given one, for each run."""
    most = max(value for values in runs for value in values) or 1.0
    lines = []
    for number, values in enumerate(runs):
        step = max(1, len(values) // _MOST_POINTS)
        chosen = [*range(0, len(values), step), *([len(values) - 1] if values else [])]
        places = ((values[at] / most, 1 - (at + 1) / len(values)) for at in chosen)
        points = " ".join(f"{_x(share):.1f},{part * (_HEIGHT - _BOTTOM):.1f}" for share, part in places)
        lines.append(f'<polyline fill=none stroke="{_COLOURS[number]}" stroke-width=2 points="{points}"/>')
    base = _HEIGHT - _BOTTOM
    marks = "".join(
        f'<text x="{_x(part):.0f}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{part * most:.0f} ms</text>'
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    sides = f'<text x=0 y=12>100 %</text><text x=0 y="{base / 2:.0f}">50 %</text>'
    frame = f'<path fill=none stroke="currentColor" opacity=.4 d="M{_LEFT} 0V{base}H{_WIDTH}"/>'
    words = "Share of the times that were no longer than this."
    drawn = f"{frame}{sides}{marks}{''.join(lines)}"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img aria-label="{words}">{drawn}</svg>'


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT)


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Realtime benchmark</title>
<style>
:root {{ color-scheme: light dark; --one: #0b6e4f; --two: #c2571a; font: 15px/1.5 system-ui, sans-serif; }}
@media (prefers-color-scheme: dark) {{ :root {{ --one: #4cc38a; --two: #ff9a5c; }} }}
body {{ max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1.05rem; margin-top: 2rem; overflow-wrap: anywhere; }}
h2 i {{ display: inline-block; width: .8em; height: .8em; border-radius: 50%; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem .25rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }}
th:first-child {{ text-align: left; font-weight: normal; }}
svg {{ width: 100%; height: auto; overflow: visible; }} text {{ fill: currentColor; font-size: 12px; opacity: .75; }}
@media (max-width: 30rem) {{
  th, td {{ padding-right: .4rem; font-size: .8rem; }}
  th:first-child {{ white-space: normal; }} text {{ font-size: 17px; }}
}}
</style>
<h1>Realtime benchmark</h1>
<p>{title}</p>
{parts}
</html>
"""
