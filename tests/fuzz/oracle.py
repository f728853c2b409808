"""What a target of fuzzing is, and what must hold for each of its cases: no error but its own, and little time."""

import copy
import json
import random
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Checked", "Mutate", "Target", "lines_changed", "reduced", "values_changed"]

_MOST_S = 0.05
_ATTEMPTS = 3  # the quickest counts: a collector of garbage or another process is not the case's fault
_MAX_REDUCTIONS = 400

Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads what strangers send."""

    run: Callable[[bytes], None]
    """Reads one case, and checks what comes of it. Whatever it raises is a finding."""
    seeds: Callable[[], list[bytes]]
    """Real messages, from which cases are made."""
    mutate: Mutate | None = None
    """Makes one case of another where turning bytes finds little."""
    everyday_runs: int = 5_000


@dataclass(slots=True)
class Checked:
    """A target with its limit of time, which is in CPU time; ``slowness`` is the machine's."""

    target: Target
    slowness: float
    cases: int = 0
    slowest_s: float = field(default=0.0)

    def __call__(self, data: bytes) -> None:
        """One case."""
        self.cases += 1
        took_s = self._timed(data)
        for _ in range(_ATTEMPTS - 1):
            if took_s <= self._limit_s:
                break
            took_s = min(took_s, self._timed(data))
        self.slowest_s = max(self.slowest_s, took_s)
        assert took_s <= self._limit_s, f"a case took {1000 * took_s:.0f} ms, over {1000 * self._limit_s:.0f}"

    @property
    def _limit_s(self) -> float:
        return _MOST_S * self.slowness

    def _timed(self, data: bytes) -> float:
        began = time.process_time()
        self.target.run(data)
        return time.process_time() - began


def _place_of(error: BaseException) -> tuple[str, object]:
    """What went wrong, and in which line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, (last.filename, last.lineno)


def reduced(run: Callable[[bytes], None], data: bytes) -> bytes:
    """The least of ``data``, by leaving out pieces, with which ``run`` fails in the same place."""

    def failure(case: bytes) -> object:
        try:
            run(case)
        except Exception as error:
            return _place_of(error)
        return None

    wanted = failure(data)
    size, attempts = len(data) // 2, 0
    while size and wanted is not None:
        at = 0
        while at < len(data) and attempts < _MAX_REDUCTIONS:
            attempts += 1
            shorter = data[:at] + data[at + size :]
            if failure(shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def lines_changed(seeds: list[bytes], separator: bytes = b"\r\n") -> Mutate:
    """Repeats, leaves out, moves, and takes lines from ``seeds``."""
    stock = [line for seed in seeds for line in seed.split(separator)]

    def mutate(data: bytes, chance: random.Random) -> bytes:
        lines = data.split(separator)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(lines))
            match chance.randrange(5):
                case 0:
                    lines.insert(at, chance.choice(stock))
                case 1:
                    lines.insert(at, lines[chance.randrange(len(lines))])
                case 2 if len(lines) > 1:
                    del lines[at]
                case 3:
                    lines[at] = chance.choice(stock)
                case _:
                    words = lines[at].split(b" ")
                    words[chance.randrange(len(words))] = chance.choice(chance.choice(stock).split(b" "))
                    lines[at] = b" ".join(words)
        return separator.join(lines)

    return mutate


def values_changed(seeds: list[bytes]) -> Mutate:
    """Of messages in JSON, one a line: changes, leaves out and adds values, takes other values and messages."""
    messages = [json.loads(line) for seed in seeds for line in seed.split(b"\n")]
    stock = [holder[key] for message in messages for holder, key in _places(message)]
    odd: list[Any] = [None, True, "", "\ud800", "item_1", -1, 0, 0.5, 2**63, 1e308, [], {}, [[]], {"": {}}, "a" * 600]

    def mutate(data: bytes, chance: random.Random) -> bytes:
        lines = data.split(b"\n")
        at = chance.randrange(len(lines))
        try:
            value = json.loads(lines[at])
        except (ValueError, RecursionError):
            value = chance.choice(messages)
        value = copy.deepcopy(value)
        for _ in range(chance.randint(1, 3)):
            places = list(_places(value))
            if not places:
                value = copy.deepcopy(chance.choice(messages))
                continue
            holder, key = chance.choice(places)
            new = copy.deepcopy(chance.choice(odd if chance.random() < 0.5 else stock))
            match chance.randrange(4):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[chance.choice([str(other) for _, other in places])] = new
                case 1:
                    holder.append(new)
                case _:
                    holder[key] = new
        lines[at] = json.dumps(value).encode()
        if chance.random() < 0.3:
            lines.insert(chance.randrange(len(lines) + 1), json.dumps(chance.choice(messages)).encode())
        return b"\n".join(lines[:6])

    return mutate


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key of it, outermost first."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)
