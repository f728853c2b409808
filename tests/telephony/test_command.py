"""``bridge call --as`` as people call it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.client import CallFailed
from bridge.client.carriers.table import CARRIERS, SIMULATORS
from bridge.client.phone_call import PhoneCall, PhonePlan
from bridge.client.sound import read_sound, write_sound
from bridge.daemon import Daemon
from tests.end_to_end.sound import PLAYED_LIKENESS, match, resample, samples_of, stretched_likeness
from tests.processes import clean_environ, ran
from tests.telephony.calling import dialling
from tests.telephony.rows import ROWS, SETTINGS

pytestmark = pytest.mark.slow


async def _call(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    return await ran(sys.executable, "-m", "bridge", "call", *arguments, environ=clean_environ(**environ))


@pytest.fixture
def words_file(speech_pcm: bytes, tmp_path: Path) -> str:
    """The first words of the recording."""
    path = str(tmp_path / "words.wav")
    write_sound(path, speech_pcm[: 48 * 2200])
    return path


@pytest.mark.alone
async def test_a_call_as_each_carrier(open_daemon: Daemon, words_file: str, short_pcm: bytes, tmp_path: Path) -> None:
    """A file goes in, a file comes out; the secret comes from the daemon's own variable."""
    async with asyncio.TaskGroup() as tasks:
        calls = {}
        for carrier in CARRIERS:
            where = dialling(open_daemon, carrier)
            out = str(tmp_path / f"{carrier}.wav")
            environ = {
                SIMULATORS[carrier].variable or "OTHER": where.secret,
                "BRIDGE_PUBLIC_URL": str(where.public_url),
            }
            arguments: tuple[str, ...] = (
                where.url,
                "--as",
                carrier,
                "--in",
                words_file,
                "--out",
                out,
                "--json",
                "--dtmf",
                "1#",
            )
            if not SIMULATORS[carrier].variable:
                arguments += ("--secret", where.secret)
            calls[carrier] = (out, tasks.create_task(_call(*arguments, **environ)))
    spoken = resample(resample(samples_of(short_pcm), 24_000, 8000), 8000, 24_000)
    for carrier, (path, call) in calls.items():
        code, out, _ = call.result()
        told = json.loads(out)
        assert (code, told["result"], told["transport"]) == (0, "answered", carrier)
        assert told["error"] is None or not ROWS[carrier].has_buffer  # whose clock is another process's
        assert told["answer_s"] > 1.5
        assert told["first_audio_ms"] > 0
        heard = samples_of(read_sound(path))
        if not ROWS[carrier].has_buffer:
            assert stretched_likeness(heard, spoken) > PLAYED_LIKENESS
        else:
            assert match(heard, spoken).correlation > 0.9, carrier
    assert open_daemon.registry.sessions == []


async def test_what_is_wrong_is_said(open_daemon: Daemon, words_file: str) -> None:
    """In one line, and the secret is not in it."""
    url, key = open_daemon.url, ("--secret", "hush-hush")
    public = ("--public-url", SETTINGS["public_url"])
    cases: list[tuple[tuple[str, ...], int, str]] = [
        ((url, "--as", "twilio", "--text", "x"), 2, "--as NAME needs --in FILE"),
        ((url, "--as", "twilio", "--in", words_file, "--listen"), 2, "without --text and --listen"),
        ((url, "--as", "pigeon", "--in", words_file), 2, "invalid choice"),
        ((url, "--as", "telnyx", "--in", words_file), 1, "BRIDGE_TELNYX_SECRET"),
        ((url, "--as", "twilio", "--in", words_file, *key, *public), 1, "HTTP 403"),
        ((url, "--as", "telnyx", "--in", words_file, *key), 1, "The bridge hung up."),
        ((url, "--as", "telnyx", "--in", words_file, *key, "--codec", "OPUS"), 1, "PCMU, PCMA, L16"),
        ((url, "--as", "asterisk", "--in", words_file, *key), 1, "HTTP 401"),
        (("127.0.0.1:9", "--as", "audiosocket", "--in", words_file, *key), 1, "UUID"),
        (("127.0.0.1:9", "--as", "audiosocket", "--in", words_file, "--secret", SETTINGS["audiosocket_uuid"][0]), 1,
         "Nothing is listening"),
        ((url, "--as", "telnyx", "--in", words_file, *key, "--out", "/no/where.wav"), 1, "no such directory"),
    ]  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        tried = [tasks.create_task(_call(*arguments)) for arguments, _, _ in cases]
    for (arguments, code, words), call in zip(cases, tried, strict=True):
        got: Any = call.result()
        assert got[0] == code, arguments
        assert words in got[2]
        assert "hush" not in got[1] + got[2]


async def test_a_call_that_is_hung_up_tells_how_much_was_said(open_daemon: Daemon, speech_pcm: bytes) -> None:
    """What was still to be said does not count."""
    call = PhoneCall(PhonePlan(dialling(open_daemon, "telnyx", secret="wrong"), pcm=20 * speech_pcm))
    with pytest.raises(CallFailed, match="hung up"):
        await call.run()
    assert call.summary().spoken_s < len(20 * speech_pcm) / 48_000
