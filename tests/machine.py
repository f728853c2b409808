"""How slow this machine is, measured once in a run; the limits of all waits are multiples of it.

A limit says when a test has waited in vain. It costs no time in a test that passes, so it may be generous. It never
says how quick something is: that is what ``benchmarks`` are for.
"""

import json
import os
import time

import numpy as np

__all__ = ["SLOWNESS", "measure_slowness", "scaled"]

_VARIABLE = "TEST_SLOWNESS"  # through it the processes of one run share the one figure
_MEASURED_S = 0.3
_REFERENCE_S = 0.0006
"""One round of ``_work`` on one core of an AMD EPYC of 2024, with nothing beside it."""

_SHARE = 2.0  # three processes run tests at once, on as few as two cores
_MOST = 20.0
_SOUND = np.sin(np.arange(24_000))
_EVENT = {"type": "input_audio_buffer.append", "event_id": "event_1", "audio": "QUJD" * 640, "numbers": [*range(50)]}


def _work() -> None:
    """What the tests do all day: events as JSON, sound as arrays, and Python between them."""
    for _ in range(20):
        json.loads(json.dumps(_EVENT))
    np.fft.rfft(_SOUND)
    sum(number * number for number in range(5_000))


def measure_slowness() -> float:
    """How many times longer than on the reference machine work takes here and now, by the clock on the wall; 1 to 20.

    It takes 0.3 s, and counts what else the machine does meanwhile.
    """
    _work()
    began, rounds = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - began) < _MEASURED_S:
        _work()
        rounds += 1
    return min(max(elapsed_s / rounds / _REFERENCE_S, 1.0), _MOST)


def _slowness_of_this_run() -> float:
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = f"{measure_slowness():.2f}"
    return float(os.environ[_VARIABLE])


SLOWNESS = _slowness_of_this_run()
"""Of this run: 1 is the reference machine. In the environment it is ``TEST_SLOWNESS``, which may also be given."""


def scaled(seconds: float) -> float:
    """The limit of a wait that would be ``seconds`` if one test ran alone on the reference machine."""
    return seconds * _SHARE * SLOWNESS
