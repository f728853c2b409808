"""Reports what a check found: as a table for the terminal, and as files in JSON, JUnit XML and HTML."""

import html
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from bridge import __version__
from bridge.client.check.runner import Outcome, Verdict
from bridge.client.check.target import CheckTarget
from bridge.client.screen import BOLD, DIM, RED, Painter, printable

__all__ = ["as_html", "as_json", "as_junit", "line", "summary"]

_MARKS = {"pass": "✓", "fail": "✗", "not_supported": "–", "not_run": "·"}
_WORDS: dict[Verdict, str] = {
    "pass": "passed",
    "fail": "failed",
    "not_supported": "not supported",
    "not_run": "not run",
}


def line(outcome: Outcome, paint: Painter) -> Iterator[str]:
    """Yields the terminal's line for one row, and a second one that says what was wrong, if anything was."""
    style = {"fail": RED, "pass": BOLD}.get(outcome.verdict, DIM)
    yield f"{paint(style, _MARKS[outcome.verdict])} {outcome.id:<44} {paint(DIM, printable(outcome.says))}"
    if outcome.why:
        yield f"    {paint(style, printable(outcome.why))}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Returns one sentence with the number of rows of each verdict."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return ", ".join(f"{counts[verdict]} {words}" for verdict, words in _WORDS.items() if counts[verdict])


def as_json(target: CheckTarget, outcomes: Sequence[Outcome]) -> str:
    """Returns everything as JSON, for programs."""
    document: dict[str, Any] = {
        **_head(target),
        "summary": dict(Counter(outcome.verdict for outcome in outcomes)),
        "rows": [outcome.as_dict() for outcome in outcomes],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def as_junit(target: CheckTarget, outcomes: Sequence[Outcome]) -> str:
    """Returns JUnit XML for CI, with a test case for each row."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    skipped = counts["not_supported"] + counts["not_run"]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={quoteattr(f"bridge check {_place(target)}")} tests="{len(outcomes)}" '
        f'failures="{counts["fail"]}" skipped="{skipped}" time="{sum(each.seconds for each in outcomes):.2f}">',
    ]
    for outcome in outcomes:
        group, _, name = outcome.id.partition(".")
        lines.append(f'<testcase classname={quoteattr(group)} name={quoteattr(name)} time="{outcome.seconds:.2f}">')
        if outcome.verdict == "fail":
            lines.append(f"<failure message={quoteattr(_clean(outcome.why))}/>")
        elif outcome.verdict != "pass":
            lines.append(f"<skipped message={quoteattr(_clean(outcome.why))}/>")
        lines.append("</testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def as_html(target: CheckTarget, outcomes: Sequence[Outcome]) -> str:
    """Returns one HTML page without other files: what was sent, what was wanted and why, and what came."""
    rows = "\n".join(_row(outcome) for outcome in outcomes)
    head = _head(target)
    facts = " · ".join(f"<span>{html.escape(f'{name}: {value}')}</span>" for name, value in head.items())
    return _PAGE.format(place=html.escape(_place(target)), facts=facts, summary=summary(outcomes), rows=rows)


def _row(outcome: Outcome) -> str:
    lists = "".join(
        f"<h4>{title}</h4><pre>{html.escape(chr(10).join(texts))}</pre>"
        for title, texts in (("Sent", outcome.sent), ("Came", outcome.came))
        if texts
    )
    why = f"<p class=why>{html.escape(outcome.why)}</p>" if outcome.why else ""
    is_open = " open" if outcome.verdict == "fail" else ""
    return (
        f"<details class={outcome.verdict}{is_open}><summary><b>{_MARKS[outcome.verdict]}</b> "
        f"<code>{html.escape(outcome.id)}</code> {html.escape(outcome.says)}</summary>"
        f"{why}<p class=source>{html.escape(outcome.source)} · {outcome.seconds:g} s</p>{lists}</details>"
    )


def _head(target: CheckTarget) -> dict[str, str]:
    return {
        "url": _place(target),
        "dialect": target.dialect,
        "transport": target.transport,
        "model": target.address.model,
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "bridge": __version__,
    }


def _place(target: CheckTarget) -> str:
    """Returns the target's URL without its query, which may hold a key."""
    return target.address.socket.partition("?")[0]


def _clean(text: str) -> str:
    """Returns the text without the characters that XML cannot hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Realtime conformance of {place}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }}
details {{ border-bottom: 1px solid #8884; padding: .35rem 0; }}
summary {{ cursor: pointer; }} summary b {{ display: inline-block; min-width: 1em; }} code {{ font-size: .9em; }}
.facts span {{ display: inline-block; }}
.pass b {{ color: #1a7f37; }} .fail b, .why {{ color: #c62828; }} .source, .facts {{ opacity: .75; font-size: .9em; }}
pre {{ overflow-x: auto; background: #8881; padding: .5rem; font-size: .8rem; }}
@media (prefers-color-scheme: dark) {{ .pass b {{ color: #56d364; }} .fail b, .why {{ color: #ff7b72; }} }}
</style>
<h1>Realtime conformance</h1>
<p class=facts>{facts}</p>
<p><strong>{summary}</strong></p>
<p class=facts>✓ passed: the server did what the row says. ✗ failed: it did something else; the row is open and shows
what came and what was wanted. – not supported: the server itself says that it does not implement this. · not run.
Click a row to see where its rule is written, what was sent and what came.</p>
{rows}
</html>
"""
