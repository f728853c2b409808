"""kill -9 in the middle of a recorded call: what had happened a moment before is on the disk, and is finished."""

import asyncio
import base64
import json
import signal
import time
import wave
from pathlib import Path

import pytest

from tests.end_to_end.web import open_socket
from tests.hostile.stage import KEY, OPERATOR, serve

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_SPOKEN_S = 6.0
_FRAME_S = 0.02
_SOUND = base64.b64encode(bytes(range(240)) * 4).decode()  # 20 ms of PCM16 at 24 kHz
_LOST_SOUND_S = 1.5  # a second until sound is final, a quarter until it is written, and the call's beginning


async def test_killed_while_recording(tmp_path: Path) -> None:
    """At most one and a half seconds are lost; the next daemon gives the files their names, and says so."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    flags = ("--api-key", KEY, "--record-dir", str(folder), "--record-calls", "true", "--record-format", "wav")
    with serve(tmp_path / "log", *flags, "--drain-s", "0") as target:
        async with open_socket(target.url, "model=any", additional_headers=OPERATOR) as owner:
            began = time.monotonic()
            call_id = owner.events[0]["session"]["id"]
            for _ in range(int(_SPOKEN_S / _FRAME_S)):
                await owner.send({"type": "input_audio_buffer.append", "audio": _SOUND})
                await asyncio.sleep(_FRAME_S)
            target.process.send_signal(signal.SIGKILL)
            took_s = time.monotonic() - began
            await asyncio.to_thread(target.process.wait)
            await owner.closed.wait()
    assert sorted(path.suffix for path in folder.iterdir()) == [".part", ".part"]
    with serve(tmp_path / "log", *flags, "--drain-s", "0") as target:
        [recovered] = [line for line in target.log_lines() if line["event"] == "recorder.recovered"]
        target.stop(8.0)
    names = sorted(path.name for path in folder.iterdir())
    assert recovered["files"] == names
    assert [name.rpartition(".")[2] for name in names] == ["jsonl", "wav"]
    assert names[0].startswith(call_id)
    lines = [json.loads(line) for line in (folder / names[0]).read_text().splitlines()]
    assert lines[0]["event"]["type"] == "session.created"
    with wave.open(str(folder / names[1])) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        assert any(sound.readframes(sound.getnframes()))
    assert _SPOKEN_S - _LOST_SOUND_S <= seconds <= took_s + 1
