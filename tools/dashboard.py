"""Draws the panels of the dashboard from a running Prometheus: ``python -m tools.dashboard URL PICTURE [MINUTES]``.

It is no picture of Grafana, which is not needed for it: each panel's queries are asked as Grafana would ask them, and
drawn with Matplotlib.
"""

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from typing import Any

import httpx2
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter

from tools.sources import ROOT

__all__ = ["main"]

_DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "bridge.json"
_COLUMNS = 3
_POINTS = 120
_MAX_LEGEND = 8
_UNITS = {"s": "seconds", "percentunit": "share", "cps": "a second", "reqps": "a second", "bytes": "bytes", "short": ""}
_NAME = re.compile(r"{{(\w+)}}")


async def main(url: str, picture: str, minutes: float = 5.0) -> None:
    """Asks Prometheus at ``url`` for the last ``minutes``, and writes a PNG."""
    panels = [panel for panel in json.loads(_DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    rows = -(-len(panels) // _COLUMNS)
    now = time.time()
    span = datetime.fromtimestamp(now - 60 * minutes), datetime.fromtimestamp(now)
    mpl.use("Agg")
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(15, 2.5 * rows), layout="constrained")
    async with httpx2.AsyncClient(trust_env=False) as client:
        for panel, place in zip(panels, axes.flat, strict=False):
            for target in panel["targets"]:
                for series in await _series(client, url, target["expr"], now, 60 * minutes):
                    if any(float(value) for _, value in series["values"]):
                        _draw(place, series, target["legendFormat"])
            _finish(place, panel, span)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    figure.savefig(picture, dpi=64)


async def _series(
    client: httpx2.AsyncClient, url: str, expression: str, now: float, seconds: float
) -> list[dict[str, Any]]:
    step = max(1.0, seconds / _POINTS)
    query = expression.replace("$__rate_interval", "15s").replace("$instance", ".*")
    asked = {"query": query, "start": str(now - seconds), "end": str(now), "step": str(step)}
    answer = (await client.get(f"{url}/api/v1/query_range", params=asked)).json()
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _draw(place: Axes, series: dict[str, Any], legend: str) -> None:
    times: Any = [datetime.fromtimestamp(at) for at, _ in series["values"]]
    label = _NAME.sub(lambda match: series["metric"].get(match[1], ""), legend).strip()
    place.plot(times, [float(value) for _, value in series["values"]], linewidth=1.2, label=label)


def _finish(place: Axes, panel: dict[str, Any], span: Any) -> None:
    place.set_title(panel["title"], fontsize=9, loc="left")
    place.set_ylabel(_UNITS[panel["fieldConfig"]["defaults"]["unit"]], fontsize=7)
    place.set_ylim(bottom=0)
    place.set_xlim(*span)
    place.tick_params(labelsize=7)
    place.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    place.grid(alpha=0.3)
    if 0 < len(place.lines) <= _MAX_LEGEND:
        place.legend(fontsize=6, loc="upper left")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:4])))
