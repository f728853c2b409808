"""The sessions benchmark runs: every server carries its calls, and what it counts is there."""

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.kit.sound import FRAME_BYTES, likeness, opus_speech, speech
from benchmarks.sessions_pion import PACKAGES
from benchmarks.stages import stages_of, table
from bridge.api.socket import SocketSink
from bridge.burst import Burst
from bridge.media.inbound import InboundAudio
from bridge.media.opus import OpusDecoder, OpusEncoder, new_decoder
from bridge.media.outbound import OutboundAudio
from bridge.media.reports import Reports
from bridge.webrtc.ice import IceLite
from bridge.webrtc.ice_full import IceFull
from bridge.webrtc.udp import MediaSocket
from bridge.wire.audio import SESSION_HZ
from tests.machine import scaled
from tests.processes import clean_environ, ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_small_round(tmp_path: Path) -> None:
    """With a few calls on a poor network: what was sent was heard, both ways and passed on, at aiortc as well."""
    file, picture = tmp_path / "sessions.json", tmp_path / "sessions.png"
    options = ["--mic", "2,4", "--both", "3", "--passed", "3", "--baseline-calls", "2", "--seconds", "2"]
    options += ["--windows", "1", "--warm-up-s", "1", "--jitter-ms", "30", "--json", str(file), "--png", str(picture)]
    command = [sys.executable, "-m", "benchmarks", "sessions", *options]
    code, out, errors = await ran(*command, limit_s=scaled(170))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures == json.loads(file.read_text())
    assert [point["calls"] for point in figures["mic"]["bridge"]] == [2, 4]
    for mode in ("mic", "both", "passed"):
        for point in figures[mode]["bridge"]:
            assert point["heard_percent"] == pytest.approx(100, abs=15)
            assert point["answered_percent"] == pytest.approx(0 if mode == "mic" else 100, abs=15)
            assert point["calls_per_core"] == pytest.approx(20_000 / point["us_per_packet"], rel=0.01)
            assert (point["threads"] < 10, point["set_ups_per_core_s"] > 5) == (True, True)
    for mode in ("mic", "both"):
        (baseline,) = figures[mode]["aiortc"]
        first = figures[mode]["bridge"][0]
        ratio = figures[mode]["times_the_calls_of"]["bridge"]["aiortc"]
        assert ratio["median"] == pytest.approx(
            first["calls_per_core"] / baseline["calls_per_core"], rel=0.01, abs=0.01
        )
        assert ratio["least"] == ratio["median"] == ratio["most"]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.foreign
@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_server_in_go_and_the_compiled_form(tmp_path: Path) -> None:
    """Both are built and do the same work: all sound comes through, and is the speech that was said (else it fails)."""
    file = tmp_path / "sessions.json"
    options = ["--servers", "bridge,compiled,pion", "--mic", "3", "--both", "3", "--passed", "3", "--seconds", "2"]
    options += ["--windows", "2", "--warm-up-s", "1", "--json", str(file), "--png", str(tmp_path / "sessions.png")]
    code, out, errors = await ran(sys.executable, "-m", "benchmarks", "sessions", *options, limit_s=scaled(590))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures["machine"]["pion"].keys() == {"go", "pion", "libopus", "gomaxprocs"}
    for mode in ("mic", "both", "passed"):
        for server in ("bridge", "compiled", "pion"):
            (point,) = figures[mode][server]
            assert point["heard_percent"] == pytest.approx(100, abs=15)
            assert point["answered_percent"] == pytest.approx(0 if mode == "mic" else 100, abs=15)
            assert len(point["us_per_packet_of_each_window"]) == 2
            assert point["mb_per_call"] > 0
            for other, ratio in figures[mode]["times_the_calls_of"][server].items():
                assert other != server
                assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]


async def test_who_has_no_go_is_told_what_to_install() -> None:
    """Without Go the benchmark ends at once, and names the packages."""
    command = (sys.executable, "-m", "benchmarks", "sessions", "--servers", "pion", "--mic", "1")
    code, out, errors = await ran(*command, environ=clean_environ(PATH="/nowhere"))
    assert (code, out) == (1, "")
    assert errors == (
        f"benchmarks sessions: the server pion is built by Go with Debian's packages: sudo apt-get install {PACKAGES}\n"
    )


def test_the_speech_is_told_from_other_sound() -> None:
    """A second of it is like itself, also as Opus; noise, silence and the speech backwards are not."""
    pcm, second = speech(), 50 * FRAME_BYTES
    decoder = new_decoder(SESSION_HZ)
    coded = b"".join(decoder.decode(payload) for payload in opus_speech()[50:100])
    assert likeness(pcm[second : 2 * second]) == pytest.approx(1, abs=0.001)
    assert 0.8 < likeness(coded) < 1
    backwards = b"".join(pcm[at : at + 2] for at in range(2 * second, second, -2))
    assert likeness(random.Random(1).randbytes(second)) < 0.4
    assert (likeness(backwards) < 0.4, likeness(bytes(second))) == (True, 0)


def test_a_sample_counts_for_the_innermost_stage() -> None:
    """Of a stack the deepest known frame decides; what is in none is the event loop's."""
    samples = """\
run (asyncio/runners.py:118);Mux.datagram_received (bridge/webrtc/mux.py:70);OpusDecoder._run (bridge/media/opus.py:1) 3
run (asyncio/runners.py:118);Mux.datagram_received (bridge/webrtc/mux.py:70) 2
run (asyncio/runners.py:118);SoundStream._send (bridge/session/s.py:9);SocketSink.write_frame (bridge/api/socket.py:1) 4
run (asyncio/runners.py:118) 1
"""
    counted = stages_of(samples)
    expected = {
        "write to the WebSocket": 4,
        "Opus: decode": 3,
        "who a datagram is from; the clock; bursts": 2,
        "event loop: wait, receive datagrams": 1,
    }
    assert counted == Counter(expected)
    assert table(counted, 50.0).splitlines()[2:4] == ["| write to the WebSocket | 20.0 |", "| Opus: decode | 15.0 |"]


@pytest.mark.parametrize(
    ("method", "stage"),
    [
        (SocketSink.send_message, "write to the WebSocket"),
        (SocketSink.write_frame, "write to the WebSocket"),
        (MediaSocket.sendto, "send a datagram"),
        (IceLite.send_datagram, "send a datagram"),
        (IceFull.send_datagram, "send a datagram"),
        (OpusDecoder.decode, "Opus: decode"),
        (OpusEncoder.encode, "Opus: encode"),
        (Burst.finish, "who a datagram is from; the clock; bursts"),
        (InboundAudio.receive_rtp, "reorder, time, count"),
        (OutboundAudio.tick, "queue, ledger, packet"),
        (Reports.due, "RTCP"),
    ],
)
def test_a_method_is_in_its_stage(method: Callable[..., object], stage: str) -> None:
    """The table finds the methods under the names that they have now."""
    frame = f"{method.__qualname__} ({method.__module__.replace('.', '/')}.py:1)"
    assert stages_of(f"run (asyncio/runners.py:118);{frame} 3") == {stage: 3}
