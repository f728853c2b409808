"""``bridge calls``, ``listen`` and ``hangup`` as whoever runs a bridge types them, against one running daemon."""

import asyncio
import json
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.client.carriers.dialling import Dialling
from tests.end_to_end.serving import LIMIT_S, Serving, serving
from tests.end_to_end.sound import samples_of, stretched_likeness
from tests.end_to_end.web import EventSocket, open_socket
from tests.processes import clean_environ, ran, started
from tests.telephony.calling import Caller, calling

pytestmark = pytest.mark.slow

_BRIDGE = (sys.executable, "-m", "bridge")
_KEY, _SECRET = "operators-key", "tel-secret"
_NUMBER = "+15550001111"  # of the simulated carrier's caller


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


@pytest.fixture(scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """With keys, and an endpoint for Telnyx."""
    log = tmp_path_factory.mktemp("operators") / "log"
    async with serving(
        log, "--drain-s", "0", BRIDGE_API_KEY=f"{_KEY},another", BRIDGE_TELNYX_SECRET=_SECRET
    ) as running:
        yield running


def _environ(daemon: Serving) -> dict[str, str]:
    return clean_environ(BRIDGE_URL=daemon.url, BRIDGE_API_KEY=f"{_KEY},another")


async def _bridge(daemon: Serving, *words: str) -> tuple[int | None, str, str]:
    return await ran(*_BRIDGE, *words, environ=_environ(daemon))


@asynccontextmanager
async def _owner(daemon: Serving) -> AsyncIterator[tuple[EventSocket, str]]:
    headers = {"Authorization": f"Bearer {_KEY}"}
    async with open_socket(daemon.url, "model=any", additional_headers=headers) as socket:
        yield socket, socket.events[0]["session"]["id"]


@asynccontextmanager
async def _telephone(daemon: Serving) -> AsyncIterator[tuple[Caller, str]]:
    """A caller, and the id of the call."""
    where = Dialling(carrier="telnyx", url=daemon.url, secret=_SECRET)
    async with calling(where) as caller:
        (found,) = await _listed(daemon, "--q", _NUMBER)
        yield caller, str(found["id"])


async def _listed(daemon: Serving, *flags: str) -> list[dict[str, Any]]:
    _, out, errors = await _bridge(daemon, "calls", "--json", *flags)
    assert not errors
    return list(json.loads(out)["data"])


async def test_calls_are_a_table(daemon: Serving) -> None:
    """A line each, with the caller's number; found by a number however it is written, and gone when they have ended."""
    async with _telephone(daemon) as (_, phone), _owner(daemon) as (_, session):
        code, out, _ = await _bridge(daemon, "calls")
        head, *lines = out.splitlines()
        assert (code, head.split()) == (0, ["CALL", "FROM", "BY", "LASTS", "STATE", "LISTENERS", "UPSTREAM", "SOUND"])
        rows = {line.split()[0]: line for line in lines}
        assert rows.keys() == {phone, session}
        assert _NUMBER in rows[phone]
        assert "telnyx" in rows[phone]
        assert "websocket" in rows[session]
        code, out, _ = await _bridge(daemon, "calls", "--q", "1 (555) 000-1111")
        assert (code, [line.split()[0] for line in out.splitlines()[1:]]) == (0, [phone])
        code, out, _ = await _bridge(daemon, "calls", "--q", "+49 30 0000")
        assert (code, "Look also with --ended" in out) == (1, True)
    assert await _listed(daemon) == []
    code, out, _ = await _bridge(daemon, "calls")
    assert (code, out) == (0, "There are no calls that run.\n")
    code, out, _ = await _bridge(daemon, "calls", "--ended", "--q", phone)
    head, line = out.splitlines()
    assert head.split()[3:7] == ["LASTED", "ENDED", "RESULT", "REASON"]
    assert (code, line.split()[0]) == (0, phone)
    assert "success" in line


async def test_calls_are_watched(daemon: Serving) -> None:
    """``--watch`` shows them again until it is interrupted, and ends then without a complaint."""
    async with started(*_BRIDGE, "calls", "--watch", "--json", environ=_environ(daemon)) as process:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            assert json.loads(await process.stdout.readline())["data"] == []
            async with _owner(daemon) as (_, session):
                while not (listed := json.loads(await process.stdout.readline())["data"]):
                    pass
                assert [call["id"] for call in listed] == [session]
            process.send_signal(2)
            assert process.stderr is not None
            assert await process.stderr.read() == b""
            assert await process.wait() == 0


async def test_a_call_is_hung_up(daemon: Serving) -> None:
    """By its id; a second time there is none, and the message says where to look."""
    async with _owner(daemon) as (socket, session):
        assert await _bridge(daemon, "hangup", session) == (0, f"{session} was hung up.\n", "")
        assert await socket.close_code() == 1000
    code, out, errors = await _bridge(daemon, "hangup", session)
    assert (code, out) == (1, "")
    assert errors.startswith(f"bridge hangup: No call {session} is running: `bridge calls` lists")
    (ended,) = await _listed(daemon, "--ended", "--q", session)
    assert (ended["result"], ended["reason"]) == ("success", "hangup")


async def test_a_call_is_listened_to(daemon: Serving, tmp_path: Path, short_pcm: bytes) -> None:
    """Both sides, as they were heard, go to a file and to a player; the transcript goes to the terminal."""
    saved, played = tmp_path / "call.wav", tmp_path / "played.pcm"
    async with _telephone(daemon) as (caller, phone):
        words = ("listen", phone, "--save", str(saved), "--player", f"tee {played}")
        async with started(*_BRIDGE, *words, environ=_environ(daemon)) as process:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT_S):
                assert b"has no transcription" in await process.stdout.readline()
            (listed,) = await _listed(daemon)
            assert [one["role"] for one in listed["listeners"]] == ["observer"]
            caller.say(short_pcm)
            await caller.hear_answer()
            await caller.phone.hang_up()
            async with asyncio.timeout(LIMIT_S):
                out, errors = await process.communicate()
    told = out.decode()
    assert (process.returncode, errors) == (0, b"")
    assert "caller speaks" in told
    assert "answer is heard" in told
    assert "call   over: success" in told
    assert f"saved as {saved}" in told
    with wave.open(str(saved)) as recording:
        assert (recording.getframerate(), recording.getnchannels()) == (24_000, 2)
        stereo = recording.readframes(recording.getnframes())
    assert played.read_bytes() == stereo
    sides = np.frombuffer(stereo, "<i2").reshape(-1, 2)
    spoken = samples_of(short_pcm)
    assert stretched_likeness(samples_of(sides[:, 0].tobytes()), spoken) > 0.8
    assert stretched_likeness(samples_of(sides[:, 1].tobytes()), spoken) > 0.8  # the parrot says it again
    first = [int(np.argmax(np.abs(side.astype(int)) > 1000)) for side in sides.T]
    assert first[1] > first[0] + 24_000  # it waits until the caller has finished


async def test_a_player_that_ends_is_told_and_listening_goes_on(daemon: Serving) -> None:
    """The call is listened to until it ends; a machine without any player is told beforehand."""
    async with _telephone(daemon) as (caller, phone):
        words = ("listen", phone, "--player", "false")
        async with started(*_BRIDGE, *words, environ=_environ(daemon)) as process:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT_S):
                await process.stdout.readline()
                await caller.wait(lambda: len(caller.frames) > 150, "three seconds of sound")
                await caller.phone.hang_up()
                out, errors = await process.communicate()
        assert (process.returncode, errors.decode()) == (0, "bridge listen: false ended, or accepted no more sound.\n")
        assert "call   over: success" in out.decode()
    async with _owner(daemon) as (_, session):
        environ = {**_environ(daemon), "PATH": "/nowhere"}
        code, _, complaint = await ran(*_BRIDGE, "listen", session, "--play", environ=environ)
        assert code == 1
        assert "No player was found (pw-cat, paplay, aplay, ffplay, play)" in complaint


async def test_what_is_wrong_is_said_with_what_to_do(daemon: Serving, tmp_path: Path) -> None:
    """A line on standard error: a call that is not there, a wrong key, no bridge, a URL that is none."""
    cases: list[tuple[tuple[str, ...], str]] = [
        (("listen", "rtc_none"), "No call rtc_none is running: `bridge calls` lists running calls."),
        (("calls", "--api-key", "wrong"), "give a key with --api-key, BRIDGE_API_KEY or OPENAI_API_KEY"),
        (("hangup", "rtc_none", "--api-key", "wrong"), "give a key with --api-key"),
        (("calls", "http://127.0.0.1:9"), "Nothing is listening at http://127.0.0.1:9"),
        (("calls", "ftp://somewhere"), "The URL should look like"),
        (("listen", "rtc_none", "--save", str(tmp_path / "no" / "where.wav")), "there is no such directory"),
        (("listen", "rtc_none", "http://127.0.0.1:9"), "Nothing is listening at"),
    ]
    for words, message in cases:
        code, out, errors = await _bridge(daemon, *words)
        assert (code, out) == (1, ""), words
        assert message in errors, words
        assert len(errors.splitlines()) == 1


async def test_the_key_is_found_where_the_daemon_has_it(daemon: Serving, tmp_path: Path) -> None:
    """``BRIDGE_API_KEY_FILE`` is as good as ``BRIDGE_API_KEY``; a file without a key is told."""
    keys = tmp_path / "keys"
    keys.write_text(f"{_KEY}\nanother\n")
    environ = clean_environ(BRIDGE_URL=daemon.url, BRIDGE_API_KEY_FILE=str(keys))
    code, out, errors = await ran(*_BRIDGE, "calls", environ=environ)
    assert (code, errors) == (0, "")
    keys.write_text("\n")
    code, out, errors = await ran(*_BRIDGE, "calls", environ=environ)
    assert (code, out) == (1, "")
    assert "BRIDGE_API_KEY_FILE: no key can be read from" in errors


async def test_a_url_for_commands_is_no_setting(daemon: Serving) -> None:
    """``BRIDGE_URL`` in the daemon's own environment is passed over."""
    code, out, errors = await _bridge(daemon, "config", "show")
    assert (code, errors) == (0, "")
    assert "url" not in [line.split()[0] for line in out.splitlines() if line.split()]
