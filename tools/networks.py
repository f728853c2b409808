"""The table of callers and networks in the guide, from what ``tests/foreign/test_networks.py`` has measured."""

import json

from tools.sources import ROOT

__all__ = ["networks_table"]

_MEASURED = ROOT / "benchmarks" / "networks.json"


def networks_table() -> str:
    """A row for each network, a column for each caller; under it why some have no figure."""
    measured = json.loads(_MEASURED.read_text())
    peers = list(measured)
    lines = [f"| network | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|"]
    lines += [
        f"| {network} | {' | '.join(_shown(measured[peer][network]) for peer in peers)} |"
        for network in measured[peers[0]]
    ]
    reasons = [
        f"- {peer}, {network}: {cell['instead']}."
        for peer, cells in measured.items()
        for network, cell in cells.items()
        if "instead" in cell
    ]
    return "\n".join([*lines, "", *reasons])


def _shown(cell: dict[str, int | str]) -> str:
    shown = f"{cell['ms']} ms, back after {cell['back_ms']} ms" if "back_ms" in cell else f"{cell['ms']} ms"
    return f"{shown} (below)" if "instead" in cell else shown
