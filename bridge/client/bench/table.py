"""Shows the report to a person: the times as a table, the rest as sentences."""

from collections.abc import Iterator
from textwrap import wrap

from bridge.client.bench.report import Complaint, Report, Spread
from bridge.client.screen import BOLD, DIM, RED, Painter, printable

__all__ = ["ROWS", "table"]

_ADVICE = {
    "closed_1011": "look in the server's log for the reason",
    "empty_answer": "is this a model that speaks?",
    "lost": "look in the server's log for the reason",
    "no_answer": "give it more time with --patience-s, or fewer calls with --calls",
}
ROWS = (
    ("connect", "connect_ms"),
    ("end of speech → first sound", "first_sound_ms"),
    ("speech_stopped → first sound", "after_stopped_ms"),
    ("session.update → reply", "round_trip_ms"),
    ("gaps in an answer", "gap_ms"),
    ("jitter of its packets", "jitter_ms"),
)
"""The times that are shown: the name of each for a person, and its field in ``Report``."""
_COLUMNS = ("p50", "p95", "p99", "max")
_NAME_WIDTH, _WIDTH = 30, 8
_LABEL_WIDTH, _TEXT_WIDTH = 10, 100


def table(report: Report, paint: Painter) -> Iterator[str]:
    """Yields the lines of the table."""
    rows = [(name, spread) for name, key in ROWS if (spread := getattr(report, key)) is not None]
    if rows:
        yield paint(DIM, "  ms".ljust(2 + _NAME_WIDTH) + "".join(name.rjust(_WIDTH) for name in (*_COLUMNS, "count")))
        for name, spread in rows:
            yield f"  {name:<{_NAME_WIDTH}}{_cells(spread)}"
        yield ""
    for name, text, style in _facts(report):
        first, *more = wrap(text, _TEXT_WIDTH)
        yield f"  {paint(DIM, name.ljust(_LABEL_WIDTH))}{paint(style, first)}"
        yield from (" " * (2 + _LABEL_WIDTH) + paint(style, line) for line in more)


def _cells(spread: Spread) -> str:
    return "".join(_number(getattr(spread, name)).rjust(_WIDTH) for name in _COLUMNS) + str(spread.count).rjust(_WIDTH)


def _number(ms: float) -> str:
    return f"{ms:.1f}" if 0 < ms < 10 else f"{ms:.0f}"


def _facts(report: Report) -> Iterator[tuple[str, str, str]]:
    """Yields the name, sentence and style of each fact."""
    calls = (
        f"{report.came_through} of {report.calls} succeeded, {report.answered} of {report.turns} turns were answered"
    )
    if report.failed:
        calls += f"; {report.failed} failed"
    if report.unfinished:
        calls += f"; {report.unfinished} were not over"
    yield "calls", calls, BOLD
    if report.early_answers:
        text = (
            f"{report.early_answers} began before the speech had ended: is there a pause in it? The times leave "
            "them out"
        )
        yield "answers", text, ""
    if report.silent_answers:
        yield "answers", f"{report.silent_answers} had no sound", ""
    if report.broken_answers:
        yield "answers", f"{report.broken_answers} of {report.answered} broke off and went on", RED
    if report.packets is not None and report.lost is not None:
        percent = 100 * report.lost / max(1, report.packets + report.lost)
        yield "packets", f"{report.packets} received, {report.lost} lost ({percent:.2f} %)", RED if report.lost else ""
    yield from _client(report)
    for told in report.failures:
        yield "failed", _told(told), RED
    for told in report.complaints:
        yield "errors", _told(told), RED
    if report.refusal is not None:
        words = f"{report.refusal.code}: {report.refusal.message}"
        yield "note", printable(f"session.update was refused; the reply that was timed is the refusal ({words})"), ""


def _client(report: Report) -> Iterator[tuple[str, str, str]]:
    client = report.client
    if not client.ticks:
        return
    late = f"{client.late_ticks} of {client.ticks} ticks late, {client.lag_max_ms:.0f} ms at most"
    text = f"this process took {client.cpu_percent:.0f} % of a core; {late}"
    yield "client", text, ""
    if client.was_late:
        yield (
            "",
            "It was late itself, which adds to the times above: make fewer calls from here, or free this machine from "
            "other work",
            RED,
        )


def _told(told: Complaint) -> str:
    advice = _ADVICE.get(told.code)
    message = printable(told.message).rstrip(".")
    return f"{told.count} × {printable(told.code)}: {message}" + (f" ({advice})" if advice else "")
