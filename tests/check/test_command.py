"""``bridge check`` as a person and a CI run it: its words, its files, its exit code."""

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.client.check import beta
from bridge.client.check.rows import ROWS
from bridge.client.check.sdp import answer_flaws, new_offer
from bridge.client.check.values import ANY, JSON_TEXT, NUMBER, TEXT, Absent, OneOf, mismatch
from bridge.daemon import Daemon
from tests.check.mutant import Fault, mutant
from tests.machine import scaled
from tests.processes import ran
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_LIMIT_S = scaled(30)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    """A server to check."""
    async with Daemon(config_for_tests()) as serving:
        yield serving


async def _check(*words: str) -> tuple[int | None, str, str]:
    return await ran(sys.executable, "-m", "bridge", "check", *words, limit_s=_LIMIT_S)


async def test_files_of_a_clean_server(daemon: Daemon, tmp_path: Path) -> None:
    """The table says what passed, the files say so too, and the exit code is 0."""
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html")}
    flags = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    code, out, _ = await _check(daemon.url, "--only", "session", "--only", "errors", *flags)
    assert code == 0, out
    assert "✓ session.merge" in out
    assert out.splitlines()[-1].endswith(" passed")
    document = json.loads(files["json"].read_text())
    assert document["summary"].keys() == {"pass"}
    assert all(row["sent"] for row in document["rows"] if row["id"].startswith("errors."))
    suite = ET.fromstring(files["junit"].read_text())
    assert suite.get("failures") == "0"
    assert len(suite) == len(document["rows"])
    assert "session.merge" in files["html"].read_text()


async def test_a_failing_row_fails_the_command(daemon: Daemon, tmp_path: Path) -> None:
    """What was wrong stands under the row, in every report, and the exit code is 1."""
    fault = Fault(server=lambda event: [] if event["type"] == "session.updated" else [event])
    page, junit = tmp_path / "page.html", tmp_path / "junit.xml"
    async with mutant(daemon.url, fault) as url:
        code, out, _ = await _check(url, "--only", "session.update", "--html", str(page), "--junit", str(junit))
    assert code == 1
    assert "✗ session.update" in out
    assert "session.updated did not come" in out
    assert "session.updated did not come" in page.read_text()
    assert "session.updated did not come" in junit.read_text()


async def test_speech_is_capped(daemon: Daemon) -> None:
    """Rows that would cost more speech than is allowed are not run, and say so."""
    code, out, _ = await _check(daemon.url, "--only", "turns.vad", "--max-seconds", "1")
    assert code == 0
    assert "1 not run" in out
    assert "--max-seconds" in out


async def test_nothing_listens() -> None:
    """One line says what to do."""
    code, _, complaint = await _check("http://127.0.0.1:9", "--only", "session.created")
    assert code == 1
    assert complaint.startswith("bridge check: Nothing is listening at")


async def test_an_unknown_row_is_refused() -> None:
    """A group that there is not is named."""
    code, _, complaint = await _check("http://127.0.0.1:9", "--only", "weather")
    assert code == 2
    assert "--only weather: there is no such group or row" in complaint


async def test_rows_are_listed() -> None:
    """``--list`` connects to nothing."""
    code, out, _ = await _check("--list")
    assert code == 0
    assert "session.merge" in out


def test_every_row_stands_alone() -> None:
    """Ids are unique, and each row says in one sentence what is right, and where that is written."""
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.says.endswith("."), row.id
        assert row.source, row.id
        assert row.steps, row.id


@pytest.mark.parametrize(
    ("event", "path", "wanted", "words"),
    [
        ({"a": {"b": 1}}, "a.b", 1, ""),
        ({"a": [{"b": 1}]}, "a.0.b", NUMBER, ""),
        ({"a": 1.0}, "a", 1, ""),
        ({"a": True}, "a", NUMBER, "a is true; wanted: a number"),
        ({"a": True}, "a", 1, "a is true; wanted: 1"),
        ({"a": ""}, "a", TEXT, 'a is ""; wanted: a text that is not empty'),
        ({"a": None}, "a", ANY, "a is null; wanted: there, and not null"),
        ({}, "a", ANY, "a is not there; wanted: there, and not null"),
        ({"a": None}, "a", Absent(), ""),
        ({"a": 1}, "a", Absent(), "a is 1, and should not be there"),
        ({"a": "x"}, "a", OneOf(("x", "y")), ""),
        ({"a": "z"}, "a", OneOf(("x", "y")), 'a is "z"; wanted: "x" or "y"'),
        ({"a": "{}"}, "a", JSON_TEXT, ""),
        ({"a": "[]"}, "a", JSON_TEXT, 'a is "[]"; wanted: the text of a JSON object'),
        ({"a": [1]}, "a.1", 1, "a.1 is not there; wanted: 1"),
        ({"a": "text"}, "a.0", 1, "a.0 is not there; wanted: 1"),
    ],
)
def test_values(event: dict[str, Any], path: str, wanted: Any, words: str) -> None:
    """What is wrong with a field is said with what it is, and what it should be."""
    assert mismatch(event, path, wanted) == words


def test_words_of_beta() -> None:
    """A row's session is flat in beta, and so are the paths that it expects."""
    session = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": None, "transcription": {"model": "m"}}},
    }
    assert beta.client_event({"type": "session.update", "session": session})["session"] == {
        "modalities": ["audio", "text"],
        "input_audio_format": "g711_ulaw",
        "turn_detection": None,
        "input_audio_transcription": {"model": "m"},
    }
    assert beta.fields({"session.audio.input.format.type": "audio/pcma", "session.output_modalities": ["text"]}) == {
        "session.input_audio_format": "g711_alaw",
        "session.modalities": ["text"],
    }
    assert beta.kind("response.output_text.delta") == "response.text.delta"


def test_an_offer_that_is_echoed_is_no_answer() -> None:
    """Each thing that keeps a browser from connecting is found."""
    assert answer_flaws(new_offer()) == [
        "a=setup is neither active nor passive",
        "there is no candidate, and the protocol has no way to send one later",
    ]
    assert answer_flaws("v=0\r\n")
