"""What a simulated network does to a stream of packets: which are lost, and which are held back."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_back", "losses"]

_BURST = 3.0
"""Packets that a burst takes on average."""
_FIRST = 5  # packets that open the path, and arrive
_HOLD_EVERY_S, _HOLD_S = 1.5, 0.5


def losses(percent: float, packets: int, chance: np.random.Generator, *, is_bursty: bool = False) -> NDArray[np.bool_]:
    """Which of so many packets are lost; in bursts by Gilbert's two-state model. The first few arrive."""
    rate = percent / 100
    lost = np.zeros(packets, dtype=bool)
    is_lost = False
    enter = rate / _BURST / (1 - rate)
    for number, roll in enumerate(chance.random(packets)):
        if is_bursty:
            is_lost = roll >= 1 / _BURST if is_lost else roll < enter
        else:
            is_lost = roll < rate
        lost[number] = is_lost
    lost[:_FIRST] = False
    return lost


def hold_back(sent: NDArray[np.floating], chance: np.random.Generator) -> NDArray[np.floating]:
    """When packets that were sent at these times, in s, arrive, if now and then all are held back for half a second.

    They then come at once, as with Wi-Fi. Between the end of one such time and the begin of the next are 1.5 s on
    average.
    """
    arrivals = sent.copy()
    end = float(sent[-1])
    at = float(chance.exponential(_HOLD_EVERY_S))
    while at + _HOLD_S < end:
        is_held = (sent >= at) & (sent < at + _HOLD_S)
        arrivals[is_held] = at + _HOLD_S
        at += _HOLD_S + float(chance.exponential(_HOLD_EVERY_S))
    return arrivals
