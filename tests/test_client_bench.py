"""The benchmark of a server: what it measures, what it makes of it, and whole runs against daemons and bad servers."""

import argparse
import asyncio
import base64
import io
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.client import CallFailed, Plan
from bridge.client.bench import Bench, BenchRecord, Failure, Load, Report, Turn
from bridge.client.bench.command import add_bench_flags, run_bench
from bridge.client.bench.gaps import Gaps
from bridge.client.bench.lag import Lag
from bridge.client.bench.report import Complaint, Spread, report
from bridge.client.bench.table import table
from bridge.client.screen import painter
from bridge.client.sound import PHRASE, read_sound, write_sound
from bridge.daemon import Daemon
from tests.processes import IGNORING_INTERRUPTS, ran, started
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_MS = 48  # bytes of PCM16 at 24 kHz
_LOUD, _SILENT = b"\x00\x10" * 480, bytes(960)  # 20 ms each
_FRAME_S = 0.02
_PNG = b"\x89PNG\r\n"

Transport = Literal["webrtc", "websocket"]


def _daemon(**settings: Any) -> Daemon:
    return Daemon(config_for_tests(**settings))


@pytest.fixture(scope="session")
def hello() -> bytes:
    """The first word of the phrase that is spoken where no other sound is given."""
    return read_sound(PHRASE)[: 600 * _MS]


@pytest.fixture(scope="session")
def hello_file(hello: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a file."""
    path = str(tmp_path_factory.mktemp("sound") / "hello.wav")
    write_sound(path, hello)
    return path


async def _measured(plan: Plan, **load: Any) -> tuple[list[BenchRecord], Report]:
    bench = Bench(plan, Load(**{"ramp_per_s": 50, **load}))
    await bench.run()
    return bench.records, bench.report()


# Gaps


def test_sound_that_comes_ahead_has_no_gap() -> None:
    """Over a WebSocket a piece may come whenever what was there before is still being played, and 100 ms later."""
    gaps = Gaps(is_paced=False)
    for now in (1.0, 1.19, 1.3):
        gaps.take_sound(0.1, now, is_audible=True)
    assert gaps.total_ms == 0
    gaps.take_sound(0.1, 1.65, is_audible=True)
    assert gaps.total_ms == pytest.approx(250)
    gaps.begin_response()
    gaps.take_sound(0.1, 60, is_audible=True)
    assert gaps.total_ms == pytest.approx(250)


def test_a_voice_that_breaks_off_and_goes_on_is_a_gap() -> None:
    """Over WebRTC: what fades, or ends for good, is none; the decoder's own fading does not end it."""
    gaps = Gaps(is_paced=True)

    def take(now: float, *, is_audible: bool) -> None:
        gaps.take_sound(_FRAME_S, now, is_audible=is_audible)

    for now, is_audible in ((1.0, True), (1.02, False), (3.0, True), (3.02, True), (3.16, True)):
        take(now, is_audible=is_audible)
    assert gaps.total_ms == 0
    for now, is_audible in ((3.36, True), (3.38, False), (3.66, True)):
        take(now, is_audible=is_audible)
    assert gaps.total_ms == pytest.approx(480)
    take(3.9, is_audible=True)
    assert gaps.total_ms == pytest.approx(480)


# The report


def _lag(*late_ms: float) -> Lag:
    lag = Lag()
    lag.late_ms.extend(late_ms)
    return lag


def test_times_become_percentiles() -> None:
    """Of what was measured; what was not is in none."""
    calls = [BenchRecord(number, result="came_through", connect_ms=number + 1.0) for number in range(100)]
    calls[0].turns = [Turn(first_sound_ms=500.0, is_answered=True, answer_s=1.0, gap_ms=40.0), Turn(is_early=True)]
    told = report(calls, _lag(0.0))
    assert told.connect_ms == Spread(100, 50.5, 95.0, 99.0, 100.0)
    assert told.first_sound_ms == Spread(1, 500.0, 500.0, 500.0, 500.0)
    assert told.round_trip_ms is None
    assert (told.turns, told.answered, told.early_answers, told.broken_answers) == (2, 1, 1, 1)
    assert (told.result, told.packets) == ("came_through", None)


def test_failures_are_counted_by_their_codes() -> None:
    """The most frequent first, in the words of the first time; one failure is enough for all of it."""
    calls = [BenchRecord(number, result="failed", failure=Failure("lost", f"No. {number}")) for number in range(3)]
    calls[0].failure = Failure("timeout", "No. 0")
    calls.append(BenchRecord(3, result="came_through", complaints=[Failure("odd", "What?"), Failure("odd", "Eh?")]))
    told = report([*calls, BenchRecord(4)], _lag())
    assert told.failures == [Complaint("lost", 2, "No. 1"), Complaint("timeout", 1, "No. 0")]
    assert told.complaints == [Complaint("odd", 2, "What?")]
    assert (told.result, told.came_through, told.failed, told.unfinished) == ("failed", 1, 3, 1)
    assert report([BenchRecord(0)], _lag()).result == "unfinished"


@pytest.mark.parametrize(("late_ms", "is_late"), [([1.0] * 99 + [30.0], False), ([30.0, 30.0] + [1.0] * 98, True),
                                                  ([0.0] * 999 + [250.0], True)])  # fmt: skip
def test_a_client_that_was_late_says_so(late_ms: list[float], is_late: bool) -> None:
    """By more than a packet's time in a hundredth of its ticks, or by much once."""
    told = report([BenchRecord(0)], _lag(*late_ms))
    assert told.client.was_late == is_late
    assert ("It was late itself" in "".join(table(told, painter(io.StringIO())))) == is_late


def test_the_table_tells_what_was_measured() -> None:
    """No row without a figure, and nothing that a server writes can drive the terminal."""
    turn = Turn(first_sound_ms=512.3, is_answered=True, answer_s=1.0)
    call = BenchRecord(0, result="came_through", turns=[turn], packets=99, lost=1)
    call.complaints.append(Failure("odd\x1b[2J", "gone\n"))
    call.refusal = Failure("unknown", "No.")
    lines = list(table(report([call], _lag(0.0)), painter(io.StringIO())))
    text = "\n".join(lines)
    assert "end of speech → first sound        512     512     512     512       1" in text
    assert "speech_stopped" not in text
    assert "1 of 1 succeeded, 1 of 1 turns were answered" in text
    assert "99 received, 1 lost (1.00 %)" in text
    assert "1 × odd [2J: gone" in text
    assert "session.update was refused" in text
    assert max(map(len, lines)) <= 120


# Whole runs


async def test_both_transports_are_measured(hello: bytes) -> None:
    """Several calls of several turns: each one is connected, answered, timed and hung up."""
    async with _daemon() as daemon:
        async with asyncio.TaskGroup() as tasks:
            transports: tuple[Transport, ...] = ("webrtc", "websocket")
            runs = [
                tasks.create_task(_measured(Plan(daemon.url, transport=transport, pcm=hello), calls=3, turns=2))
                for transport in transports
            ]
        assert daemon.registry.sessions == []
    for transport, run in zip(transports, runs, strict=True):
        records, told = run.result()
        assert (told.result, told.came_through, told.turns, told.answered) == ("came_through", 3, 6, 6)
        assert (told.failures, told.complaints, told.refusal) == ([], [], None)
        assert told.client.ticks > 100
        for record in records:
            assert (record.connect_ms or 0) > 0
            assert (record.call_id is None) == (transport == "websocket")
            assert (record.packets or 0) > (50 if transport == "webrtc" else -1)
            for turn in record.turns:
                assert (turn.round_trip_ms or 0) > 0
                if not turn.is_early:  # on a busy machine a client may still be speaking when it is answered
                    assert turn.first_sound_ms is not None
                    assert turn.after_stopped_ms is not None
                    assert 0 <= turn.after_stopped_ms < turn.first_sound_ms
                assert turn.answer_s >= 0.6  # all of the word
        first, second = records[0].turns
        assert (second.spoken_at_s or 0) - (first.spoken_at_s or 0) > 0.6 + 0.6  # it listens before it speaks


async def test_calls_that_are_refused_are_counted(hello: bytes) -> None:
    """By the server's code, with what to do; those that get in come through all the same."""
    async with _daemon(api_key=("sk-right",)) as guarded:
        for transport in ("webrtc", "websocket"):
            records, told = await _measured(
                Plan(guarded.url, transport=transport, api_key="sk-wrong", pcm=hello), calls=2
            )
            assert [(each.code, each.count) for each in told.failures] == [("invalid_api_key", 2)]
            assert "HTTP 401" in told.failures[0].message
            assert "sk-wrong" not in repr((records, told))
    async with _daemon(max_calls=1) as full:
        _, told = await _measured(Plan(full.url, transport="websocket", pcm=hello), calls=3, turns=1)
    assert (told.result, told.came_through, told.failed, told.answered) == ("failed", 1, 2, 1)
    assert [(each.code, each.count) for each in told.failures] == [("too_many_calls", 2)]
    assert "HTTP 429" in told.failures[0].message


async def test_a_server_that_is_not_there_fails_every_call(hello: bytes) -> None:
    """Without an exception, and without waiting; a URL that cannot be one is refused at once."""
    for transport in ("webrtc", "websocket"):
        _, told = await _measured(Plan("http://127.0.0.1:9", transport=transport, pcm=hello), calls=2)
        assert [(each.code, each.count) for each in told.failures] == [("nothing_listens", 2)]
    with pytest.raises(CallFailed, match="should look like"):
        Bench(Plan("ftp://h"), Load())


# Servers of other kinds

Talk = Callable[["_Session"], Awaitable[None]]


class _Session:
    """The server's end of one call."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self.socket = socket
        self.number = number

    async def say(self, kind: str, **members: Any) -> None:
        """Sends an event."""
        await self.socket.send(json.dumps({"type": kind, **members}))

    async def until(self, kind: str, times: int = 1) -> dict[str, Any]:
        """The client's event of this kind that comes as the last of so many."""
        while True:
            event: dict[str, Any] = json.loads(await self.socket.recv())
            times -= event["type"] == kind
            if times <= 0:
                return event

    async def answer(self, *pieces: bytes) -> None:
        """A response of such sound."""
        await self.say("response.created")
        for pcm in pieces:
            await self.say("response.output_audio.delta", delta=base64.b64encode(pcm).decode())
        await self.say("response.done", response={"status": "completed", "output": []})


@asynccontextmanager
async def _server(talk: Talk, session: dict[str, Any]) -> AsyncIterator[str]:
    """The URL of a Realtime server that talks so in each of its calls."""
    count = 0

    async def serve_one(socket: ServerConnection) -> None:
        nonlocal count
        count += 1
        each = _Session(socket, count)
        await each.say("session.created", session=session)
        await talk(each)
        with suppress(ConnectionClosed):
            await each.until("the end of the call")

    async with serve(serve_one, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_a_server_that_hangs_up_in_mid_call_fails_that_call_alone() -> None:
    """With what it said last, and its close code; the others come through."""

    async def talk(session: _Session) -> None:
        await session.until("input_audio_buffer.append", 2)
        if session.number == 2:
            await session.say("error", error={"type": "server_error", "code": "out_of_memory", "message": "Too much."})
            await session.socket.close(1011, "sorry")
        else:
            await session.answer(_LOUD)

    async with _server(talk, {"type": "realtime"}) as url:
        records, told = await _measured(Plan(url, transport="websocket", pcm=2 * _LOUD), calls=3, turns=1)
    assert (told.came_through, told.failed) == (2, 1)
    assert told.complaints == [Complaint("out_of_memory", 1, "Too much.")]
    assert told.failures == [Complaint("closed_1011", 1, "The server closed the socket (1011 sorry). Too much.")]
    [failed] = [record for record in records if record.result == "failed"]
    assert [turn.is_answered for turn in failed.turns] == [False]


async def test_hanging_up_behind_the_last_answer_is_no_failure() -> None:
    """But it is one where more was to be said."""

    async def talk(session: _Session) -> None:
        await session.until("input_audio_buffer.append")
        await session.answer(_LOUD)
        await session.socket.close()

    async with _server(talk, {}) as url:
        plan = Plan(url, transport="websocket", pcm=_LOUD)
        _, one = await _measured(plan, calls=1, turns=1)
        _, two = await _measured(plan, calls=1, turns=2)
    assert (one.result, one.answered) == ("came_through", 1)
    assert (two.result, two.answered) == ("failed", 1)
    assert [told.code for told in two.failures] == ["closed_1000"]


async def test_a_server_that_refuses_the_probe_is_measured_by_its_refusal() -> None:
    """It is asked once in a call, in its own dialect, and nothing else depends on it."""
    probes: list[dict[str, Any]] = []

    async def talk(session: _Session) -> None:
        for _ in range(2):
            event = await session.until("session.update" if not probes else "input_audio_buffer.append")
            if event["type"] == "session.update":
                probes.append(event)
                error = {"code": "no_such_event", "message": "What?", "event_id": event["event_id"]}
                await session.say("error", error=error)
                await session.until("input_audio_buffer.append")
            await session.answer(_LOUD)

    async with _server(talk, {"modalities": ["text"]}) as url:
        records, told = await _measured(Plan(url, transport="websocket", pcm=_LOUD), calls=1, turns=2)
    assert (told.result, told.answered, told.complaints) == ("came_through", 2, [])
    assert told.refusal == Failure("no_such_event", "What?")
    assert [turn.round_trip_ms is not None for turn in records[0].turns] == [True, False]
    assert [probe["session"] for probe in probes] == [{}]


async def test_an_answer_that_begins_early_has_no_time() -> None:
    """The server took a pause for the end; a cancelled response is no answer at all."""

    async def talk(session: _Session) -> None:
        await session.until("input_audio_buffer.append")
        if session.number == 1:
            await session.answer(_LOUD)
            return
        await session.say("response.created")
        await session.say("response.output_audio.delta", delta=base64.b64encode(_LOUD).decode())
        await session.say("response.done", response={"status": "cancelled"})
        await session.until("input_audio_buffer.append", 5)
        await session.answer(_LOUD)

    async with _server(talk, {}) as url:
        records, told = await _measured(Plan(url, transport="websocket", pcm=3 * _LOUD), calls=2, turns=1)
    assert (told.result, told.early_answers) == ("came_through", 1)
    [early] = [record.turns[0] for record in records if record.turns[0].is_early]
    assert early.first_sound_ms is None
    assert told.first_sound_ms is not None
    assert told.first_sound_ms.count == 1


async def test_patience_has_an_end() -> None:
    """A server that never answers, and one whose response fails: both are told by what is known."""

    async def talk(session: _Session) -> None:
        await session.until("input_audio_buffer.append")
        if session.number == 1:
            await session.say("response.created")
            error = {"code": "insufficient_quota", "message": "No money."}
            await session.say("response.done", response={"status": "failed", "status_details": {"error": error}})

    async with _server(talk, {}) as url:
        _, told = await _measured(Plan(url, transport="websocket", pcm=_LOUD), calls=2, turns=1, patience_s=0.5)
    assert {each.code: each.message for each in told.failures} == {
        "insufficient_quota": "The response failed: No money.",
        "no_answer": "There was no complete answer within 0.52 s: "
        "the server detected no speech, or its turn detection is off.",
    }


# The command


_COMMAND = (sys.executable, "-m", "bridge", "bench")


async def _bridge_bench(*arguments: str) -> tuple[int | None, str, str]:
    return await ran(*_COMMAND, *arguments)


async def test_the_command_measures_and_saves(hello_file: str, tmp_path: Path) -> None:
    """A table for people, JSON for programs, a picture; exit code 0 as every call came through."""
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    common = ("--in", hello_file, "--ramp-per-s", "20", "--api-key", "sk-right")
    async with _daemon(api_key=("sk-right",)) as daemon, asyncio.TaskGroup() as tasks:
        files = ("--json", str(figures), "--png", str(picture))
        one = tasks.create_task(_bridge_bench(daemon.url, *common, "--calls", "2", "--turns", "1", *files))
        ws = daemon.url.replace("http:", "ws:")
        two = tasks.create_task(_bridge_bench(ws, *common, "--calls", "1", "--seconds", "1", "--json", "-"))
    code, out, errors = one.result()
    assert (code, errors) == (0, "")
    assert "2 calls to" in out.splitlines()[0]
    assert "over WebRTC, 1 turn each (1 s of speech in all, and the answers)." in out.splitlines()[0]
    assert "2 of 2 succeeded, 2 of 2 turns were answered" in out
    assert picture.read_bytes().startswith(_PNG)
    saved = json.loads(figures.read_text())
    assert saved["report"]["first_sound_ms"]["count"] == 2
    assert [call["result"] for call in saved["calls"]] == ["came_through", "came_through"]
    assert saved["load"]["calls"] == 2
    assert saved["transport"] == "webrtc"
    assert "sk-right" not in figures.read_text()
    code, out, errors = two.result()
    told = json.loads(out)
    assert (code, told["transport"], told["report"]["result"]) == (0, "websocket", "came_through")
    assert "1 of 1 succeeded" in errors


async def test_the_command_says_what_to_do(hello_file: str, tmp_path: Path) -> None:
    """Exit code 1 where a call failed or none could be made, 2 where it was called wrongly."""
    common = ("--in", hello_file, "--calls", "2", "--turns", "1", "--ramp-per-s", "50")
    async with _daemon(api_key=("sk-right",)) as guarded:
        cases = [
            ((guarded.url, *common), 1, "2 × invalid_api_key"),
            (("http://127.0.0.1:9", *common), 1, "2 × nothing_listens"),
            (("ftp://h",), 1, "should look like"),
            ((guarded.url, "--json", str(tmp_path / "no" / "a.json")), 1, "no such directory"),
            ((guarded.url, "--in", str(tmp_path)), 1, "cannot be read as sound"),
            ((guarded.url, "--calls", "0"), 2, "no number from 1 to 1000"),
            ((guarded.url, "--turns", "2", "--seconds", "9"), 2, "not allowed with"),
            ((guarded.url, "--ramp-per-s", "nan"), 2, "no number above 0"),
        ]
        async with asyncio.TaskGroup() as tasks:
            tried = [tasks.create_task(_bridge_bench(*arguments)) for arguments, _, _ in cases]
    for (_, code, words), task in zip(cases, tried, strict=True):
        got, out, errors = task.result()
        assert got == code, errors
        assert words in out + errors


@pytest.mark.parametrize("before", [(), IGNORING_INTERRUPTS], ids=["heeded", "ignored"])
async def test_the_command_tells_what_it_has_when_interrupted(hello_file: str, before: tuple[str, ...]) -> None:
    """Ctrl-C hangs up every call and tells what was measured, also if SIGINT was ignored at the start."""
    heard = [asyncio.Event() for _ in range(2)]
    codes: list[int | None] = []

    async def talk(session: _Session) -> None:
        await session.until("input_audio_buffer.append")
        heard[session.number - 1].set()
        with suppress(ConnectionClosed):
            await session.until("the end of the call")
        codes.append(session.socket.close_code)

    async with _server(talk, {}) as url:
        options = ("--in", hello_file, "--calls", "2", "--seconds", "60", "--json", "-")
        async with started(*before, *_COMMAND, url, *options) as process:
            for each in heard:
                await each.wait()
            process.send_signal(signal.SIGINT)
            out, errors = await process.communicate()
    assert codes == [1000, 1000]
    told = json.loads(out)["report"]
    assert (process.returncode, errors.decode().splitlines()[-1]) == (130, "bridge bench: Hung up.")
    assert (told["result"], told["unfinished"]) == ("unfinished", 2)
    assert told["connect_ms"]["count"] == 2


def test_a_picture_without_matplotlib_is_refused_before_any_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what to install is said."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    parser = argparse.ArgumentParser()
    add_bench_flags(parser)
    assert run_bench(parser.parse_args(["http://127.0.0.1:9", "--png", "a.png"]), {}, asyncio.Runner) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "pip install matplotlib" in captured.err


def test_the_phrase_is_one_turn() -> None:
    """It is there without any other file, and no pause in it is long enough to end a turn."""
    pcm = read_sound(PHRASE)
    assert len(pcm) // _MS == 1600
    steps = [max(abs(int.from_bytes(pcm[at : at + 2], "little", signed=True)) for at in range(start, start + 480, 2))
             for start in range(0, len(pcm) - 479, 480)]  # fmt: skip
    pauses = "".join("." if step < 300 else "#" for step in steps).strip(".").split("#")
    assert 10 * max(map(len, pauses)) < 200
