"""Fuzzing by coverage: ``python -m tests.fuzz TARGET|all [--runs 1000000] [--seed 1] [--case FILE]``.

A finding is written to a file, reduced, and printed; ``--case`` runs such a file alone. ``all`` runs all targets, each
in a process of its own and as many at once as there are cores.
"""

import argparse
import gc
import importlib
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import atheris
import structlog
from tqdm import tqdm

from tests.fuzz.oracle import Checked, Target, reduced
from tests.machine import measure_slowness

__all__ = ["TARGETS", "main"]

_ROOM_OF = {
    **dict.fromkeys(("binary", "red", "rtcp", "rtp", "stun"), "media"),
    **dict.fromkeys(
        ("asterisk", "audiosocket", "form", "fragment", "genesys", "sdp", "telnyx", "twilio"), "signalling"
    ),
    **dict.fromkeys(("client_beta", "client_ga", "server_beta", "server_ga"), "events"),
}
TARGETS = sorted(_ROOM_OF)
"""Their names."""

_MOST_BYTES = 8192
_MOST_MB = 2048


def main() -> None:
    """Runs one target; exits with 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzing by coverage.")
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--runs", type=int, help="cases; unset: so many as in everyday tests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path(), metavar="FOLDER", help="where findings are written")
    parser.add_argument("--case", type=Path, metavar="FILE", help="runs this one alone")
    arguments = parser.parse_args()
    if arguments.target == "all":
        sys.exit(_run_all(sys.argv[sys.argv.index("all") + 1 :]))
    structlog.configure(processors=[_drop])
    with atheris.instrument_imports(include=["bridge"]):
        room = importlib.import_module(f"tests.fuzz.{_ROOM_OF[arguments.target]}")
    run_target(arguments.target, room.TARGETS[arguments.target], arguments)


def run_target(name: str, target: Target, arguments: argparse.Namespace) -> None:
    """Runs cases of one, or the one case that is asked for."""
    checked = Checked(target, measure_slowness())
    if arguments.case is not None:
        data = arguments.case.read_bytes()
        sys.stdout.write(f"{reduced(target.run, data)!r}\n")
        checked(data)
        return
    _fuzz(name, checked, arguments.runs or target.everyday_runs, arguments.seed, arguments.findings)


def _run_all(options: list[str]) -> int:
    """The exit code: 1 if one of them found something; each one's last words are printed."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        command = (sys.executable, "-m", "tests.fuzz")
        runs = [
            pool.submit(subprocess.run, [*command, name, *options], capture_output=True, text=True) for name in TARGETS
        ]
        code = 0
        for run in tqdm(as_completed(runs), total=len(runs), desc="fuzzing", unit="target", disable=None):
            result = run.result()
            sys.stdout.write(result.stdout)
            if result.returncode:
                sys.stderr.write(result.stderr)
                code = 1
    return code


def _drop(logger: object, name: str, event: object) -> str:
    raise structlog.DropEvent


def _fuzz(name: str, checked: Checked, runs: int, seed: int, findings: Path) -> None:
    """Does not return."""
    mutate = checked.target.mutate

    def run(data: bytes) -> None:
        try:
            checked(data)
        except Exception:
            path = findings / f"fuzz-{name}.case"
            path.write_bytes(data)
            least = reduced(checked.target.run, data)
            sys.stderr.write(f"{name} fails after {checked.cases} cases: {path}\n{least!r}\n")
            raise
        if checked.cases >= runs:
            slowest_ms = 1000 * checked.slowest_s
            sys.stdout.write(f"{name}: {checked.cases} cases, the slowest {slowest_ms:.1f} ms\n")
            sys.stdout.flush()

    def change(data: bytes, most: int, case_seed: int) -> bytes:
        chance = random.Random(case_seed)
        if mutate is None or chance.random() < 0.4:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, chance)[:most]

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, case in enumerate(checked.target.seeds()):
            checked.target.run(case)
            (corpus / f"{number:03}").write_bytes(case)
        gc.collect()
        gc.freeze()
        options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={_MOST_BYTES}", f"-rss_limit_mb={_MOST_MB}",
                   "-timeout=20", "-verbosity=0", f"-artifact_prefix={folder}/"]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, str(corpus)], run, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
