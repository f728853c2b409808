"""Logs: one line per event, parseable, and never a secret in it."""

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bridge.log import LineWriter, Tally, configure, get_logger

_SDP = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\na=ice-pwd:hunter2hunter2hunter2hu\r\na=fingerprint:sha-256 AB:CD\r\n"

# What must not be seen -> an event that has it.
_SECRETS: list[tuple[str, dict[str, Any]]] = [
    ("abc123", {"detail": "using ek_abc123 now"}),
    ("abc123", {"protocol": "realtime, openai-insecure-api-key.sk-abc123"}),
    ("hunter2", {"detail": "Authorization: Bearer hunter2"}),
    ("hunter2", {"authorization": "hunter2"}),
    ("hunter2", {"Authorization": ["hunter2"]}),
    ("hunter2", {"headers": {"X-Api-Key": "hunter2"}}),
    ("hunter2", {"settings": [{"ice_pwd": "hunter2"}]}),
    ("hunter2", {"token": "hunter2"}),
    ("hunter2", {"line": "a=ice-pwd:hunter2"}),
    ("hunter2", {"offer": _SDP}),
    ("fingerprint", {"offer": _SDP}),
    ("fingerprint", {"offer": json.dumps({"sdp": _SDP})}),
    ("fingerprint", {"error": ValueError(_SDP)}),
    ("fingerprint", {"sdp": _SDP}),
    ("AAAA", {"audio": "AAAA"}),
    ("AAAA", {"text": json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 1280})}),
    ("RIFF", {"chunk": b"RIFF"}),
]


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Each test starts and ends without our configuration."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_per_line() -> None:
    """Time in UTC, level, room and keys; what is bound to the task comes along."""
    stream = io.StringIO()
    configure("json", "info", stream)
    with structlog.contextvars.bound_contextvars(call_id="rtc_1"):
        get_logger("api").info("call.opened", peers=2)
    (line,) = _json_lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "call.opened", "level": "info", "room": "api", "call_id": "rtc_1", "peers": 2}


def test_auto_follows_the_stream() -> None:
    """Lines for a person on a terminal, JSON anywhere else."""
    terminal, pipe = _Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        configure("auto", "info", stream)
        get_logger("api").info("call.opened")
    assert "call.opened" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert _json_lines(pipe)[0]["event"] == "call.opened"


def test_a_console_in_a_pipe_has_no_colours() -> None:
    """``console`` may be asked for where no terminal is."""
    stream = io.StringIO()
    configure("console", "info", stream)
    get_logger("api").info("call.opened", peers=2)
    assert "peers=2" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_the_level_holds() -> None:
    """What is less severe than asked for is not written."""
    stream = io.StringIO()
    configure("json", "warning", stream)
    get_logger("api").info("call.opened")
    get_logger("api").warning("call.slow")
    assert [line["event"] for line in _json_lines(stream)] == ["call.slow"]


def test_a_logger_made_before_configure_follows_it() -> None:
    """Modules make their logger at import time."""
    log = get_logger("api")
    streams = io.StringIO(), io.StringIO()
    for stream in streams:
        configure("json", "info", stream)
        log.info("call.opened")
    assert [len(_json_lines(stream)) for stream in streams] == [1, 1]


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(("secret", "keys"), _SECRETS)
def test_a_secret_never_reaches_a_line(format: str, secret: str, keys: dict[str, Any]) -> None:
    """Known by its key or by its look, as a value, inside one, and inside a traceback."""
    stream = io.StringIO()
    configure(format, "info", stream)
    get_logger("api").info("call.opened", **keys)
    assert secret not in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_secret_in_a_traceback_is_taken_out(format: str) -> None:
    """An exception's message and its frames' locals may hold keys and bodies."""
    stream = io.StringIO()
    configure(format, "info", stream)
    local = "-".join(("a", "local"))  # so that no source line has it
    try:
        raise ValueError(_SDP)
    except ValueError:
        get_logger("api").exception("call.failed")
        logging.getLogger("aiortc").exception("it failed")
    assert stream.getvalue().count("failed") == 2
    for secret in ("hunter2", "fingerprint", local):
        assert secret not in stream.getvalue()


def test_a_traceback_is_one_field() -> None:
    """In JSON it has the type, the message and the frames; on a console it keeps its lines."""
    streams = {"json": io.StringIO(), "console": io.StringIO()}
    for format, stream in streams.items():
        configure(format, "info", stream)
        try:
            raise ValueError("no such thing")
        except ValueError:
            get_logger("api").exception("call.failed")
    (line,) = _json_lines(streams["json"])
    assert [(e["exc_type"], e["exc_value"]) for e in line["exception"]] == [("ValueError", "no such thing")]
    assert "locals" not in line["exception"][0]["frames"][0]
    assert streams["console"].getvalue().splitlines()[-1] == "ValueError: no such thing"


def test_other_libraries_write_the_same_lines() -> None:
    """From WARNING up, with their logger's name, and redacted."""
    stream = io.StringIO()
    configure("json", "debug", stream)
    logging.getLogger("aioice.ice").info("too quiet")
    logging.getLogger("uvicorn.error").warning("bad key %s", "sk-abc")
    (line,) = _json_lines(stream)
    assert (line["event"], line["logger"], line["level"]) == ("bad key [redacted]", "uvicorn.error", "warning")


def test_configuring_twice_writes_once() -> None:
    """The handler of an earlier call is replaced, and the streams of others are left alone."""
    first, second = io.StringIO(), io.StringIO()
    configure("json", "info", first)
    configure("json", "info", second)
    logging.getLogger("asyncio").error("once")
    assert (len(_json_lines(first)), len(_json_lines(second))) == (0, 1)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**80, "\ud800", "a\nb", {1: {2}}, b"\xff", object, (1, None, True), 1e-9, "\u2028"],
)
def test_every_value_makes_one_line_that_parses(value: Any) -> None:
    """Whatever is logged, JSON stays JSON (RFC 8259: no NaN) and a line stays a line."""
    stream = io.StringIO()
    configure("json", "info", stream)
    get_logger("api").info("call.odd", value=value)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line, parse_constant=refuse)["event"] == "call.odd"


def test_a_value_cannot_forge_a_line_or_drive_the_terminal() -> None:
    """Newlines and escape sequences are taken out on a console too."""
    stream = io.StringIO()
    configure("console", "info", stream)
    get_logger("api").info("call.opened", agent="curl\n2025-01-01 [info] call.closed \x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_long_value_is_cut() -> None:
    """A value of 2,000 characters is whole; a longer one is cut and says how long it was."""
    stream = io.StringIO()
    configure("json", "info", stream)
    get_logger("api").info("call.odd", whole="a b " * 500, cut="a b " * 501)
    (line,) = _json_lines(stream)
    assert line["whole"] == "a b " * 500
    assert line["cut"] == "a b " * 500 + "… (2004 characters)"


def test_a_tally_reports_at_most_once_a_second() -> None:
    """The first at once, then all that came in between with the first one after a second."""
    tally = Tally()
    assert [tally.count_repeat("drop", now) for now in (5.0, 5.1, 5.9, 6.0, 6.5, 9.0)] == [1, None, None, 3, None, 2]


def test_a_tally_counts_each_name_alone() -> None:
    """One name's storm does not hide another's first."""
    tally = Tally()
    assert (tally.count_repeat("drop", 0.0), tally.count_repeat("late", 0.0), tally.count_repeat("drop", 0.5)) == (
        1,
        1,
        None,
    )


def test_a_reader_that_has_stopped_keeps_nobody_waiting() -> None:
    """Lines beyond the bound are dropped, and told of as soon as somebody reads on; those that were queued come."""
    read_end, write_end = os.pipe()
    with LineWriter(write_end) as writer:
        configure("json", "info", writer)
        line = "many words " * 180
        for number in range(1000):
            get_logger("api").info("call.odd", number=number, line=line)
        dropped = writer.dropped
        assert 0 < dropped < 1000
        with os.fdopen(read_end) as reader:
            lines = [json.loads(reader.readline()) for _ in range(1000 - dropped + 1)]
    os.close(write_end)
    told = [line for line in lines if line["event"] == "log.dropped"]
    assert [line["number"] for line in lines if line["event"] == "call.odd"] == list(range(1000 - dropped))
    assert sum(line["count"] for line in told) == dropped


def test_a_reader_that_is_gone_keeps_nobody_waiting() -> None:
    """A closed pipe loses the lines, and nothing else."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with LineWriter(write_end) as writer:
        configure("json", "info", writer)
        get_logger("api").info("call.opened")
    os.close(write_end)


def test_the_last_line_is_written_before_the_end() -> None:
    """What is queued when the daemon stops still comes."""
    read_end, write_end = os.pipe()
    with LineWriter(write_end) as writer:
        configure("json", "info", writer)
        get_logger("daemon").info("daemon.stopped")
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        assert json.loads(reader.read())["event"] == "daemon.stopped"


def test_a_storm_of_a_library_is_one_line() -> None:
    """What uvicorn or aiortc repeat is written once a second."""
    stream = io.StringIO()
    configure("json", "info", stream)
    for _ in range(100):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").warning("Something else.")
    assert [line["event"] for line in _json_lines(stream)] == ["Invalid HTTP request received.", "Something else."]


def test_a_storm_of_tracebacks_is_one_line() -> None:
    """What fails again and again is told once a second; other events are not held back."""
    stream = io.StringIO()
    configure("json", "info", stream)
    for number in range(100):
        get_logger("api").error("call.failed", exc_info=ValueError("no"))
        get_logger("api").info("call.opened", number=number)
    lines = _json_lines(stream)
    assert [line["event"] for line in lines].count("call.failed") == 1
    assert [line["number"] for line in lines if line["event"] == "call.opened"] == list(range(100))
