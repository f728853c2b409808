"""The caller: how it reads addresses and sound, when it takes an answer for complete, and whole calls to a daemon."""

import argparse
import asyncio
import base64
import io
import json
import signal
import sys
import wave
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve

from bridge.client import Call, CallFailed, Plan, Summary
from bridge.client.address import parse_address
from bridge.client.answer import Answer, AnsweredFunctionCall
from bridge.client.flags import transport_of
from bridge.client.listening import Listening
from bridge.client.sound import is_silent, read_sound, sounding_end, write_sound
from bridge.client.terminal import Terminal, add_call_flags
from bridge.config import Config
from bridge.daemon import Daemon
from tests.machine import scaled
from tests.processes import IGNORING_INTERRUPTS, clean_environ, ran, started
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_MS = 48  # bytes of PCM16 at 24 kHz
_LOUD, _SILENT = b"\x00\x10" * 480, bytes(960)  # 20 ms each
_TURN = {"type": "response.created"}, {"type": "response.done", "response": {"status": "completed", "output": []}}


def _settings(**settings: Any) -> Config:
    return config_for_tests(**settings)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon of its own, on free ports."""
    async with Daemon(_settings()) as serving:
        yield serving


@pytest.fixture(scope="session")
def words(speech_pcm: bytes) -> bytes:
    """The first words of the recording."""
    return speech_pcm[: 2200 * _MS]


@pytest.fixture(scope="session")
def words_file(words: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a file."""
    path = str(tmp_path_factory.mktemp("sound") / "words.wav")
    write_sound(path, words)
    return path


def _likeness(sound: bytes, source: bytes) -> float:
    """The correlation of two recordings' short-time spectra where they lie on one another best.

    Of the spectra, not of the waves: Opus for speech turns the phase of low tones, which only a computer hears.
    Another 20 ms of the same speech are 0.85 alike.
    """
    ours, theirs = (np.frombuffer(pcm, "<i2").astype(np.float64) for pcm in (sound, source))
    size = 1 << (len(ours) + len(theirs)).bit_length()
    product = np.fft.irfft(np.fft.rfft(ours, size) * np.conj(np.fft.rfft(theirs, size)), size)
    lag = int(np.argmax(product))
    lag = lag - size if lag > size // 2 else lag
    ours, theirs = ours[max(0, lag) :], theirs[max(0, -lag) :]
    common = min(len(ours), len(theirs))
    return float(np.corrcoef(_spectra(ours[:common]), _spectra(theirs[:common]))[0, 1])


def _spectra(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    frames = samples[: len(samples) // 480 * 480].reshape(-1, 480) * np.hanning(480)
    spectra: NDArray[np.float64] = np.abs(np.fft.rfft(frames)).ravel()
    return spectra


# Addresses


@pytest.mark.parametrize(
    ("url", "calls", "socket"),
    [
        ("http://h:1", "http://h:1/v1/realtime/calls", "ws://h:1/v1/realtime"),
        ("http://h:1/", "http://h:1/v1/realtime/calls", "ws://h:1/v1/realtime"),
        ("h:1", "http://h:1/v1/realtime/calls", "ws://h:1/v1/realtime"),
        ("ws://h:1", "http://h:1/v1/realtime/calls", "ws://h:1/v1/realtime"),
        ("http://[::1]:1", "http://[::1]:1/v1/realtime/calls", "ws://[::1]:1/v1/realtime"),
        ("https://h/v1", "https://h/v1/realtime/calls", "wss://h/v1/realtime"),
        ("https://h/v1/", "https://h/v1/realtime/calls", "wss://h/v1/realtime"),
        ("https://h/v1/realtime", "https://h/v1/realtime/calls", "wss://h/v1/realtime"),
        ("wss://h/v1/realtime", "https://h/v1/realtime/calls", "wss://h/v1/realtime"),
        ("https://h/v1/realtime/calls", "https://h/v1/realtime/calls", "wss://h/v1/realtime"),
        ("https://h/openai/v1", "https://h/openai/v1/realtime/calls", "wss://h/openai/v1/realtime"),
        ("wss://h/api/v4/realtime", "https://h/api/v4/realtime/calls", "wss://h/api/v4/realtime"),
    ],
)
def test_an_address_is_found_behind_every_form_of_url(url: str, calls: str, socket: str) -> None:
    """Base, API root or endpoint, of either scheme: each leads to both endpoints."""
    address = parse_address(url)
    assert (address.calls, address.socket) == (f"{calls}?model=gpt-realtime-2.1", f"{socket}?model=gpt-realtime-2.1")


def test_the_query_of_a_url_is_kept() -> None:
    """What is asked for beside the model goes along; a model that is named wins over the URL's."""
    assert parse_address("http://h/v1?model=m&a=b").socket == "ws://h/v1/realtime?model=m&a=b"
    assert parse_address("http://h/v1?model=m", "n").socket == "ws://h/v1/realtime?model=n"
    listener = parse_address("http://h?a=b").listener("rtc_1")
    assert listener == "ws://h/v1/realtime?a=b&call_id=rtc_1&audio=pcm16"


@pytest.mark.parametrize(
    ("arguments", "transport"),
    [
        (["http://h"], "webrtc"),
        (["h:1"], "webrtc"),
        (["ws://h"], "websocket"),
        (["WSS://h/v1"], "websocket"),
        (["wss://h", "--transport", "webrtc"], "webrtc"),
        (["http://h", "--transport", "websocket"], "websocket"),
    ],
)
def test_the_url_says_how_to_call(arguments: list[str], transport: str) -> None:
    """A WebSocket's URL is called over WebSocket, every other over WebRTC, unless it is said."""
    parser = argparse.ArgumentParser()
    add_call_flags(parser)
    assert transport_of(parser.parse_args(arguments), {}) == transport


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://me:secret@h", "http://h:port", "http://[h"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """A URL that cannot work is not called, and not repeated, for it may hold a password."""
    with pytest.raises(CallFailed, match="should look like") as failure:
        parse_address(url)
    assert "secret" not in failure.value.message


# Sound


def test_sound_of_another_rate_becomes_the_sessions(tmp_path: Path) -> None:
    """Half a second of 8 kHz stereo is half a second at 24 kHz mono."""
    path = tmp_path / "tone.wav"
    tone = (8000 * np.sin(np.arange(4000) * 2 * np.pi * 440 / 8000)).astype("<i2")
    with path.open("wb") as file, wave.open(file, "wb") as recording:
        recording.setparams((2, 2, 8000, 0, "NONE", ""))
        recording.writeframes(np.repeat(tone, 2).tobytes())
    pcm = read_sound(str(path))
    assert len(pcm) // _MS == pytest.approx(500, abs=5)
    assert _likeness(pcm, (8000 * np.sin(np.arange(12000) * 2 * np.pi * 440 / 24000)).astype("<i2").tobytes()) > 0.99


def test_sound_is_written_as_it_is_read(tmp_path: Path, words: bytes) -> None:
    """A WAV file of ours is taken without a change."""
    path = str(tmp_path / "words.wav")
    write_sound(path, words)
    assert read_sound(path) == words


def test_a_file_without_sound_is_refused(tmp_path: Path) -> None:
    """Text, nothing, and what does not exist: each is named."""
    (tmp_path / "text").write_text("no sound")
    (tmp_path / "nothing").write_bytes(b"")
    for name in ("text", "nothing", "absent"):
        with pytest.raises(CallFailed, match=name):
            read_sound(str(tmp_path / name))
    with pytest.raises(CallFailed, match="cannot be written"):
        write_sound(str(tmp_path / "absent" / "answer.wav"), b"")


def test_silence_is_found() -> None:
    """Codec noise is silence, a voice is none, and the end of what sounds is known to 10 ms."""
    assert is_silent(b"")
    assert is_silent(b"\x05\x00\xfb\xff" * 100)
    assert not is_silent(_LOUD)
    assert sounding_end(_LOUD + _SILENT + _LOUD + 5 * _SILENT) == 3 * 960
    assert sounding_end(_SILENT) == 0


# The answer


def test_a_played_answer_ends_when_the_server_says_so() -> None:
    """Over WebRTC the answer is what sounded from ``started`` to ``stopped``, and ends with the latter."""
    answer = Answer(is_paced=True)
    answer.finish_speaking(0)
    answer.receive_audio(_SILENT, 0.9)
    for event in (*_TURN, {"type": "output_audio_buffer.started"}):
        answer.receive_event(event, 1)
    answer.receive_audio(_SILENT + _LOUD + _SILENT, 1.1)
    assert not answer.is_complete(60)
    answer.receive_event({"type": "output_audio_buffer.stopped"}, 60)
    answer.receive_audio(10 * _SILENT, 60.1)
    assert not answer.is_complete(60.1)
    assert answer.is_complete(60.3)
    assert answer.pcm == _SILENT + _LOUD + _SILENT
    assert answer.heard_at == 1


def test_a_played_answer_ends_in_silence_where_nobody_says_so() -> None:
    """With a server that does not tell of its playing, the answer is what could be heard, and a second ends it."""
    answer = Answer(is_paced=True)
    answer.finish_speaking(0)
    for event in _TURN:
        answer.receive_event(event, 1)
    for tick in range(50):
        answer.receive_audio(_LOUD if 10 <= tick < 40 else _SILENT, 1 + tick / 50)
    assert not answer.is_complete(2.7)
    assert answer.is_complete(2.8)
    assert answer.pcm == 30 * _LOUD
    assert answer.heard_at == 1.2


def test_an_answer_over_a_socket_ends_with_the_response() -> None:
    """All the sound has come by then."""
    answer = Answer(is_paced=False)
    answer.finish_speaking(0)
    answer.receive_event(_TURN[0], 1)
    answer.receive_audio(_SILENT, 1.5)
    assert not answer.is_complete(9)
    answer.receive_event(_TURN[1], 9)
    assert answer.is_complete(9)
    assert (answer.pcm, answer.heard_at) == (_SILENT, 1.5)


def test_a_cancelled_response_is_no_answer() -> None:
    """A caller who goes on speaking gets another one."""
    answer = Answer(is_paced=False)
    answer.receive_event(_TURN[0], 1)
    answer.receive_event({"type": "input_audio_buffer.speech_started"}, 2)
    answer.receive_event({"type": "response.done", "response": {"status": "cancelled"}}, 2)
    answer.finish_speaking(3)
    answer.receive_event({"type": "input_audio_buffer.speech_stopped"}, 4)
    assert not answer.is_complete(60)
    for event in _TURN:
        answer.receive_event(event, 5)
    assert answer.is_complete(5)


def test_an_answer_to_half_of_the_words_may_be_followed_by_another() -> None:
    """A response that began before the caller had finished is taken for the answer only after a while."""
    answer = Answer(is_paced=False)
    for event in _TURN:
        answer.receive_event(event, 1)
    answer.finish_speaking(2)
    assert not answer.is_complete(3.9)
    assert answer.is_complete(4.1)


def test_a_function_call_is_an_answer() -> None:
    """It is known from the item or from the response, and counted once."""
    item = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    answer = Answer(is_paced=True)
    answer.finish_speaking(0)
    answer.receive_event(_TURN[0], 1)
    answer.receive_event({"type": "response.output_item.done", "item": item}, 1)
    answer.receive_event({"type": "response.done", "response": {"status": "completed", "output": [item]}}, 1)
    assert answer.is_complete(1)
    assert list(answer.function_calls.values()) == [AnsweredFunctionCall("weather", "{}")]


def test_a_failed_response_says_why() -> None:
    """The call is over, with the server's reason."""
    answer = Answer(is_paced=True)
    details = {"type": "failed", "error": {"code": "insufficient_quota", "message": "No money."}}
    answer.receive_event({"type": "response.done", "response": {"status": "failed", "status_details": details}}, 1)
    assert answer.is_complete(1)
    assert answer.failure == "The response failed: No money."


def test_a_listener_finds_what_is_missing() -> None:
    """Sound events of each stream are numbered; what is left out is counted, other ids are not."""
    listening = Listening("", None)
    for number in (7, 8, 11):
        audio = base64.b64encode(_SILENT).decode()
        listening.count_event({"type": "input_audio_buffer.append", "event_id": f"event_a_{number}", "audio": audio})
    listening.count_event({"type": "response.output_audio.delta", "event_id": "event_b_1", "delta": ""})
    listening.count_event({"type": "response.output_audio.delta", "event_id": "event_other", "delta": ""})
    listening.count_event({"type": "session.created", "event_id": "event_c_99"})
    heard = listening.heard
    assert (heard.append_events, heard.append_ms, heard.delta_events, heard.missing) == (3, 60, 2, 2)
    assert heard.events == 6


# The terminal


def test_events_are_lines() -> None:
    """Deltas are counted, sound is cut, and nothing that a server writes can drive the terminal."""
    out = io.StringIO()
    terminal = Terminal(out, shows_all=False)
    for at_s in (0.1, 0.2):
        terminal.event(at_s, {"type": "response.output_audio.delta", "delta": "AAAA"}, is_ours=False)
    terminal.event(0.3, {"type": "rate_limits.updated"}, is_ours=False)
    terminal.event(0.4, {"type": "error", "error": {"code": "c", "message": "\x1b[2Jgone\n"}}, is_ours=False)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["0.200", "←", "response.output_audio.delta", "×", "2"],
        ["0.400", "←", "error", "c:", "[2Jgone"],
    ]
    out = io.StringIO()
    Terminal(out, shows_all=True).event(1, {"type": "x.delta", "delta": "A" * 1000}, is_ours=True)
    assert out.getvalue().split(maxsplit=2)[1:] == [
        "→",
        f'{{"type": "x.delta", "delta": "{"A" * 40}… (1000 characters)"}}\n',
    ]


# Whole calls


async def _call(plan: Plan) -> tuple[Call, Summary]:
    call = Call(plan)
    return call, await call.run()


async def test_both_transports_bring_the_words_back(daemon: Daemon, words: bytes) -> None:
    """The embedded engine repeats what it hears; the listener beside the WebRTC call hears everything."""
    async with asyncio.TaskGroup() as tasks:
        tried = [
            tasks.create_task(_call(Plan(daemon.url, transport="webrtc", pcm=words, listen=True))),
            tasks.create_task(_call(Plan(daemon.url, transport="websocket", pcm=words))),
        ]
    for call, summary in [task.result() for task in tried]:
        assert summary.result == "answered"
        assert _likeness(call.answer.pcm, words) > 0.95
        assert summary.answer_s == pytest.approx(2.2 + 0.5, abs=0.3)  # the words, and the silence that ended the turn
        assert summary.connect_ms is not None
        assert 300 < (summary.first_audio_ms or 0) < 2000
    summary = tried[0].result()[1]
    heard = summary.listener
    assert heard is not None
    assert (heard.note, heard.missing) == ("", 0)
    assert heard.append_ms > 2200
    assert heard.delta_ms / 1000 == pytest.approx(summary.answer_s, abs=0.2)
    assert summary.call_id is not None
    assert (summary.packets or 0) > 100
    assert summary.lost == 0


async def test_a_typed_message_is_answered_in_writing(daemon: Daemon) -> None:
    """Without sound there is nothing to wait for; instructions go first."""
    for transport in ("webrtc", "websocket"):
        call = Call(Plan(daemon.url, transport=transport, text="Good morning", instructions="Be kind."))
        summary = await call.run()
        assert (summary.result, summary.text) == ("answered", "You wrote: Good morning")


async def test_an_event_that_is_refused_ends_the_call(daemon: Daemon) -> None:
    """There is no use in waiting for an answer to it."""
    call = Call(Plan(daemon.url, transport="websocket", text="x", instructions=1))  # type: ignore[arg-type]
    with pytest.raises(CallFailed, match="refused an event"):
        await call.run()
    assert call.summary().result == "failed"


async def test_patience_has_an_end(daemon: Daemon) -> None:
    """A server that hears no speech does not answer, and the caller says so."""
    call = Call(Plan(daemon.url, transport="websocket", pcm=10 * _SILENT, timeout_s=scaled(1.0)))
    with pytest.raises(CallFailed, match=r"within [0-9.]+ s: the server detected no speech"):
        await call.run()
    assert daemon.registry.sessions == []


async def test_a_call_that_fails_tells_how_much_was_said() -> None:
    """What was not said by then does not count; where nobody answers that is all of it."""

    async def hang_up_soon(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "session.created", "session": {}}))
        for _ in range(5):
            await socket.recv()
        await socket.close(1011)

    async with serve(hang_up_soon, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        call = Call(Plan(f"ws://127.0.0.1:{port}", transport="websocket", pcm=3000 * _LOUD))
        with pytest.raises(CallFailed, match="closed the socket"):
            await call.run()
        assert 0.1 <= call.summary().spoken_s < 60
    nobody = Call(Plan(f"ws://127.0.0.1:{port}", transport="websocket", pcm=_LOUD))
    with pytest.raises(CallFailed):
        await nobody.run()
    assert nobody.summary().spoken_s == 0


async def test_a_server_of_the_beta_dialect_is_understood() -> None:
    """The names of sound and text were others then; the key and the model are shown, the sound is appended."""
    seen: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.extend((socket.request.path, socket.request.headers["Authorization"]))
        await socket.send(json.dumps({"type": "session.created", "session": {}}))
        event = json.loads(await socket.recv())
        seen.append(base64.b64decode(event["audio"]))
        delta = base64.b64encode(_LOUD).decode()
        for event in (
            _TURN[0],
            {"type": "response.audio.delta", "delta": delta},
            {"type": "response.audio_transcript.done", "transcript": "Yes."},
            _TURN[1],
        ):
            await socket.send(json.dumps(event))
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        plan = Plan(f"ws://127.0.0.1:{port}", transport="websocket", model="m", api_key="k", pcm=_LOUD)
        call, summary = await _call(plan)
    assert seen == ["/v1/realtime?model=m", "Bearer k", _LOUD]
    assert (call.answer.pcm, summary.text, summary.result) == (_LOUD, "Yes.", "answered")


@pytest.mark.parametrize("transport", ["webrtc", "websocket"])
async def test_a_wrong_key_is_said_and_not_shown(transport: Any) -> None:
    """The advice names where keys come from; the key is in no message, whatever is wrong with it."""
    async with Daemon(_settings(api_key=("sk-right",))) as guarded:
        for key in ("sk-wrong", "sk-wrong\n", "sk-wröng", None):
            with pytest.raises(CallFailed, match="key") as failure:
                await Call(Plan(guarded.url, transport=transport, api_key=key, text="x")).run()
            assert "sk-w" not in failure.value.message
    assert "sk-right" not in repr(Plan(api_key="sk-right"))


# The command


_COMMAND = (sys.executable, "-m", "bridge", "call")


async def _bridge_call(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    return await ran(*_COMMAND, *arguments, environ=clean_environ(**environ))


async def test_the_command_brings_the_words_back(daemon: Daemon, words: bytes, words_file: str, tmp_path: Path) -> None:
    """A file goes in, a file comes out, and the figures can be read by people and by programs."""
    first, second = str(tmp_path / "first.wav"), str(tmp_path / "second.wav")
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(_bridge_call(daemon.url, "--in", words_file, "--out", first, "--listen", "--json"))
        two = tasks.create_task(
            _bridge_call(daemon.url, "--in", words_file, "--out", second, "--transport", "websocket")
        )
    code, out, errors = one.result()
    figures = json.loads(out)
    assert (code, figures["result"], figures["listener"]["missing"]) == (0, "answered", 0)
    assert "response.done" in errors
    code, out, errors = two.result()
    assert (code, errors) == (0, "")
    assert "first audio" in out
    for path in (first, second):
        assert _likeness(read_sound(path), words) > 0.95


async def test_the_command_says_what_to_do(daemon: Daemon, tmp_path: Path) -> None:
    """One line on standard error and exit code 1, or 2 where it was called wrongly."""
    (tmp_path / "bad.wav").write_text("no sound")
    bad = str(tmp_path / "bad.wav")
    cases = [
        (("http://127.0.0.1:9", "--text", "x"), 1, "is `make run` running?"),
        ((daemon.url, "--in", bad), 1, "cannot be read as sound"),
        ((daemon.url, "--text", "x", "--out", str(tmp_path / "no" / "a.wav")), 1, "no such directory"),
        ((f"{daemon.url}elsewhere", "--text", "x"), 1, "HTTP 404"),
        ((daemon.url,), 2, "say something"),
        ((daemon.url, "--text", "x", "--listen", "--transport", "websocket"), 2, "--transport webrtc"),
    ]
    async with asyncio.TaskGroup() as tasks:
        tried = [tasks.create_task(_bridge_call(*arguments)) for arguments, _, _ in cases]
    for (_, code, words), task in zip(cases, tried, strict=True):
        got, out, errors = task.result()
        assert (got, out) == (code, "")
        assert words in errors


@pytest.mark.parametrize("before", [(), IGNORING_INTERRUPTS], ids=["heeded", "ignored"])
async def test_the_command_hangs_up_when_interrupted(daemon: Daemon, words_file: str, before: tuple[str, ...]) -> None:
    """Ctrl-C ends the call on both sides, also if SIGINT was ignored where the command was started."""
    async with started(*before, *_COMMAND, daemon.url, "--in", words_file) as process:
        assert process.stdout is not None
        while b"connected" not in await process.stdout.readline():
            pass
        [session] = daemon.registry.sessions
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"bridge call: Hung up.\n")
    await session.lifetime.closed.wait()


async def test_the_key_comes_from_the_environment(tmp_path: Path) -> None:
    """``BRIDGE_API_KEY`` before ``OPENAI_API_KEY``, and a flag before both."""
    async with Daemon(_settings(api_key=("sk-right",))) as guarded:
        plain = (guarded.url, "--text", "x", "--transport", "websocket", "--json")
        wrong = {"OPENAI_API_KEY": "sk-wrong"}
        results = await asyncio.gather(
            _bridge_call(*plain, BRIDGE_API_KEY="sk-right", **wrong),
            _bridge_call(*plain, OPENAI_API_KEY="sk-right"),
            _bridge_call(*plain, "--api-key", "sk-right", BRIDGE_API_KEY="sk-wrong", **wrong),
            _bridge_call(*plain, **wrong),
        )
    assert [code for code, _, _ in results] == [0, 0, 0, 1]
    assert json.loads(results[3][1])["result"] == "failed"


def test_a_summary_is_there_before_the_call() -> None:
    """Nothing is known yet, and nothing is made up."""
    summary = asdict(Call(Plan()).summary())
    assert summary["result"] == "failed"
    assert {summary[name] for name in ("call_id", "connect_ms", "first_audio_ms", "packets", "listener")} == {None}
