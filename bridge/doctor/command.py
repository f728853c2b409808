"""``bridge doctor``: makes the examinations of the table one after another, and shows what each has found."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from bridge.client.address import CallFailed
from bridge.client.operators.api import BridgeApi
from bridge.client.screen import BOLD, DIM, GREEN, RED, YELLOW, Painter, painter, printable
from bridge.client.where import URL_VARIABLE, key_of
from bridge.config.load import Sources
from bridge.doctor.findings import Examination, Examined, Finding, FindingLevel, fault
from bridge.doctor.table import EXAMINATIONS

__all__ = ["run_doctor"]

_LIMIT_S = 60.0
_STYLES = {FindingLevel.OK: GREEN, FindingLevel.WARNING: YELLOW, FindingLevel.FAULT: RED}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_doctor(
    arguments: argparse.Namespace,
    sources: Sources,
    environ: Mapping[str, str],
    new_runner: Callable[[], asyncio.Runner],
) -> int:
    """Examines what the flags say; 0 if there is no fault."""
    try:
        examined = _examined(arguments, sources, environ)
    except CallFailed as failure:
        sys.stderr.write(f"bridge doctor: {printable(failure.message)}\n")
        return 2
    report = _Report(as_json=arguments.json)
    try:
        with new_runner() as runner:
            runner.run(_examine(examined, report))
    except KeyboardInterrupt:
        return 130
    return report.end()


def _examined(arguments: argparse.Namespace, sources: Sources, environ: Mapping[str, str]) -> Examined:
    reading = sources.read()
    url = arguments.url or environ.get(URL_VARIABLE)
    keys = () if reading.config is None else reading.config.access.api_key
    api_key = keys[0] if keys else key_of(argparse.Namespace(api_key=None), environ)
    api = BridgeApi(url, api_key) if url else None
    is_here = api is None or arguments.config is not None or urlsplit(api.address.origin).hostname in _LOOPBACK
    return Examined(reading=reading, ignored=sources.ignored, api=api, api_key=api_key, is_here=is_here)


async def _examine(examined: Examined, report: "_Report") -> None:
    for row in EXAMINATIONS:
        try:
            async with asyncio.timeout(_LIMIT_S):
                async for finding in row.run(examined):
                    report.add(row, finding)
        except TimeoutError:
            report.add(
                row, fault(f"this took longer than {_LIMIT_S:g} s", "try again, and look at what it was waiting for")
            )
        except Exception as error:  # one that fails must not hide the others
            report.add(row, fault(f"the examination failed: {type(error).__name__}: {error}", "please report it"))


class _Report:
    """What was found, a line each as soon as it is known; as JSON all at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._paint: Painter = painter(sys.stdout)
        self._found: list[tuple[str, Finding]] = []
        self._width = max(len(row.name) for row in EXAMINATIONS)

    def add(self, row: Examination, finding: Finding) -> None:
        """One more."""
        self._found.append((row.name, finding))
        if self._as_json:
            return
        word = self._paint(_STYLES[finding.level], f"{finding.level:<7}")
        sys.stdout.write(f"{word}  {row.name:<{self._width}}  {printable(finding.says)}\n")
        if finding.advice:
            sys.stdout.write(f"{'':7}  {'':{self._width}}  {self._paint(DIM, f'→ {printable(finding.advice)}')}\n")
        sys.stdout.flush()

    def end(self) -> int:
        """Says how many there were; the exit code."""
        levels = [finding.level for _, finding in self._found]
        faults, warnings = levels.count(FindingLevel.FAULT), levels.count(FindingLevel.WARNING)
        if self._as_json:
            findings = [
                {"name": name, "level": finding.level, "says": finding.says, "advice": finding.advice}
                for name, finding in self._found
            ]
            told = {"object": "bridge.doctor", "faults": faults, "warnings": warnings, "findings": findings}
            sys.stdout.write(f"{json.dumps(told, ensure_ascii=False)}\n")
        else:
            sys.stdout.write(self._paint(BOLD, f"{_counted(faults, 'fault')}, {_counted(warnings, 'warning')}.") + "\n")
        return 1 if faults else 0


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
