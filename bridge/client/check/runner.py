"""Runs the rows, and says of each how it went."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import monotonic
from typing import Any, Literal

from bridge.client.address import CallFailed
from bridge.client.check.player import Mismatch, NotSupported, Player, SessionOpenings
from bridge.client.check.rows import ROWS
from bridge.client.check.shapes import LIVE_SHAPES, SHAPES, flaws, live_flaws
from bridge.client.check.steps import Dialect, Row
from bridge.client.check.target import CheckTarget
from bridge.client.check.values import shortened

__all__ = ["Outcome", "Verdict", "chosen", "run", "speech_s"]

Verdict = Literal["pass", "fail", "not_supported", "not_run"]
_TRIES = 3  # of a row whose speech had pauses that are not the server's fault
_MOST_SHOWN = 40  # of the events of a row
_SHAPES_SOURCE = "Realtime API reference, server events; requirements of stock SDKs"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one row."""

    id: str
    says: str
    source: str
    verdict: Verdict
    why: str = ""
    """What was wrong, or why the row was not run."""
    sent: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the outcome in a form for JSON."""
        return asdict(self)


def chosen(target: CheckTarget, only: Sequence[str] = ()) -> list[Row]:
    """Returns the rows for the target's dialect and transport.

    If ``only`` names groups or ids, these are the only ones.
    """
    return [
        row
        for row in ROWS
        if target.dialect in row.dialects
        and target.transport in row.transports
        and (not row.needs_key or target.api_key)
        and (not only or row.group in only or row.id in only)
    ]


def speech_s(rows: Iterable[Row]) -> float:
    """Returns how many seconds of speech the rows cost."""
    return sum(row.speech_s for row in rows)


async def run(
    target: CheckTarget,
    rows: Sequence[Row],
    phrase: bytes,
    *,
    max_speech_s: float = 600.0,
    jobs: int = 1,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs the rows. Returns the outcome of each, and then one for each kind of event that came.

    ``told`` gets each outcome at once. At most ``jobs`` rows run at a time. A row that would cost more speech than is
    left of ``max_speech_s`` is not run. A row that did not pass is played again if this machine made pauses in the
    speech, and if there is speech left. Raises ``CallFailed`` if nothing can be reached at all.
    """
    shapes = _Shapes(target.dialect)
    turn, openings = asyncio.Semaphore(jobs), SessionOpenings()
    left_s = max_speech_s

    def spend(row: Row) -> bool:
        nonlocal left_s
        if row.speech_s > left_s:
            return False
        left_s -= row.speech_s
        return True

    async def play(row: Row, *, is_over: bool) -> Outcome:
        if is_over:
            outcome = _not_run(row, "it would need more speech than --max-seconds allows")
        else:
            async with turn:
                if row.opens and openings.never_opens:
                    outcome = _not_run(row, "no session could be opened in the rows before it")
                else:
                    outcome = await _played(target, row, phrase, shapes, openings, spend)
        told(outcome)
        return outcome

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(play(row, is_over=not spend(row))) for row in rows]
    except* CallFailed as failures:
        raise failures.exceptions[0] from None
    outcomes = [task.result() for task in tasks]
    for outcome in shapes.outcomes():
        outcomes.append(outcome)
        told(outcome)
    return outcomes


def _not_run(row: Row, why: str) -> Outcome:
    return Outcome(row.id, row.says, row.source, "not_run", why)


async def _played(
    target: CheckTarget,
    row: Row,
    phrase: bytes,
    shapes: "_Shapes",
    openings: SessionOpenings,
    spend: Callable[[Row], bool],
) -> Outcome:
    """Plays a row, and again if pauses that this machine made in the speech may be why it did not pass."""
    tries = 0
    while True:
        tries += 1
        player = Player(target, row, phrase, openings)
        outcome = await _tried(target, row, player, shapes)
        if outcome.verdict == "pass" or not player.paused_ms:
            return outcome
        if tries == _TRIES or not spend(row):
            tried = "once" if tries == 1 else f"{tries} times"
            words = f"this machine stood still for {player.paused_ms} ms while it spoke; tried {tried}"
            return replace(outcome, why=f"{outcome.why} ({words})")


async def _tried(target: CheckTarget, row: Row, player: Player, shapes: "_Shapes") -> Outcome:
    began = monotonic()
    verdict: Verdict = "pass"
    why = ""
    try:
        await player.play()
    except Mismatch as mismatch:
        verdict, why = "fail", str(mismatch)
    except NotSupported as missing:
        verdict, why = "not_supported", str(missing)
    except CallFailed as failure:
        if failure.code in ("nothing_listens", "unknown_host", "unreachable"):
            raise
        verdict, why = "fail", failure.message
    except TimeoutError:
        verdict, why = "fail", "no connection was made in time"
    came = []
    for link in player.links:
        shapes.look_at(link.events)
        came += [shortened(event, 240) for event in link.events]
    if len(came) > _MOST_SHOWN:
        came = [*came[:_MOST_SHOWN], f"… and {len(came) - _MOST_SHOWN} more"]
    return Outcome(row.id, row.says, row.source, verdict, why, player.sent, came, round(monotonic() - began, 2))


class _Shapes:
    """Collects which fields were missing in the events that came, in all rows."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._flaws: dict[str, tuple[str, str]] = {}
        self._seen: dict[str, int] = {}

    def look_at(self, events: Iterable[dict[str, Any]]) -> None:
        """Looks at the events of one connection."""
        for event in events:
            kind = event["type"]
            self._seen[kind] = self._seen.get(kind, 0) + 1
            if kind not in self._flaws and (found := self._flaws_of(event)):
                self._flaws[kind] = (found[0], shortened(event, 400))

    def _flaws_of(self, event: dict[str, Any]) -> list[str]:
        if self._dialect == "live":
            return live_flaws(event)
        return flaws(event, is_beta=self._dialect == "beta")

    def _is_known(self, kind: str) -> bool:
        return kind in (LIVE_SHAPES if self._dialect == "live" else SHAPES) or self._dialect == "beta"

    def outcomes(self) -> list[Outcome]:
        """Returns one outcome for each kind of event that came."""
        found = []
        for kind, count in sorted(self._seen.items()):
            flaw, shown = self._flaws.get(kind, ("", ""))
            known = "" if self._is_known(kind) else " (an unknown event: only its event_id)"
            says = f"Each {kind} has the fields that clients need{known}."
            came = [shown] if flaw else [f"{count} of them"]
            verdict: Verdict = "fail" if flaw else "pass"
            found.append(Outcome(f"events.{kind}", says, _SHAPES_SOURCE, verdict, flaw, [], came))
        return found
