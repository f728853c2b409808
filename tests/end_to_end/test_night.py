"""The night: somebody with a telephone number says that the sound was choppy. The guide's four commands find the cause.

The commands are run as they stand in ``docs/guides/choppy-sound.md``, by a shell.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.client.carriers.contract import silence_of
from bridge.client.carriers.dialling import Dialling
from bridge.client.phone import Phone, dial
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import Serving, serving
from tests.processes import ROOT, clean_environ, ran
from tests.telephony.calling import to_telephone
from tests.webrtc.relay import Relay

_PAGE = ROOT / "docs" / "guides" / "choppy-sound.md"
_KEY, _SECRET = "night-key", "tel-secret"
_FRAME_S = 0.02
_HELD_FRAMES = 25
_ID = re.compile(r"\brtc_\w+")
_NUMBER = re.compile(r"\+?[-\d.:TZ]*\d[-\d.:TZ]*")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


@pytest.fixture(scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """With a carrier, a key, and a log in a file."""
    log = tmp_path_factory.mktemp("night") / "bridge.log"
    flags = ("--drain-s", "0", "--advertise", "127.0.0.1")
    async with serving(log, *flags, BRIDGE_API_KEY=_KEY, BRIDGE_TELNYX_SECRET=_SECRET) as running:
        yield running


def _commands() -> list[tuple[str, str]]:
    """The page's four, each with the output that the page shows."""
    section = _PAGE.read_text().partition("## In four commands\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)\n```\n\n```text\n(.*?)\n```", section, re.DOTALL)


def _shape(text: str) -> Iterator[str]:
    """The lines without what differs from call to call: ids, numbers, spaces."""
    for line in text.splitlines():
        yield " ".join(_NUMBER.sub("#", _ID.sub("ID", line)).split())


async def _typed(daemon: Serving, command: str, **given: str) -> str:
    """What a shell prints in which the page's variables are set."""
    bridge = Path(sys.executable).parent
    environ = clean_environ(BRIDGE_URL=daemon.url.rstrip("/"), BRIDGE_API_KEY=_KEY, LOG=str(daemon.log_path), **given)
    environ["PATH"] = f"{bridge}:{environ['PATH']}"
    code, out, errors = await ran("sh", "-c", command, environ=environ)
    assert (code, errors) == (0, ""), command
    return out


async def _speak_in_bursts(phone: Phone, pcm: bytes) -> None:
    """As over a connection that stands still for half a second of each: nothing is lost, and much is late."""
    audio_format = phone.carrier.audio_format
    sound, size = to_telephone(pcm, audio_format), len(silence_of(audio_format))
    frames = [sound[at : at + size].ljust(size, silence_of(audio_format)[:1]) for at in range(0, len(sound), size)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, frame in enumerate(frames):
        held = _HELD_FRAMES - number % (2 * _HELD_FRAMES)
        await asyncio.sleep(began + (number + max(0, held)) * _FRAME_S - loop.time())
        await phone.tick(frame)


def _call_in(table: str) -> tuple[str, str]:
    """Id and sound of the only call that a table shows."""
    head, line = table.splitlines()
    assert head.split()[0] == "CALL"
    return line.split()[0], line[head.index("SOUND") :]


def _metric(page: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in page.splitlines() if re.match(rf"{name}[{{ ]", line))


@pytest.mark.slow
async def test_a_telephone_call_whose_sound_came_late(daemon: Serving, speech_pcm: bytes) -> None:
    """From the number to the call, its log, the metric and the cause; and the page shows what is printed."""
    async with dial(Dialling(carrier="telnyx", url=daemon.url, secret=_SECRET)) as phone:
        await _speak_in_bursts(phone, speech_pcm[: 48 * 4000])
    (find, shown_call), (log, shown_log), (metrics, shown_metrics), (why, shown_cause) = _commands()
    found = await _typed(daemon, find, NUMBER="+1 555 000-1111")
    call, sound = _call_in(found)
    assert "input_late_ms" in sound
    lines = [json.loads(line) for line in (await _typed(daemon, log, CALL=call)).splitlines()]
    assert [line["event"] for line in lines] == ["call.opened", "call.closed"]
    assert all(line["call_id"] == call for line in lines)
    assert lines[-1]["input_late_ms"] > 800
    page = await _typed(daemon, metrics)
    assert _metric(page, "bridge_telephony_input_late_seconds_total") > 0.8
    cause = await _typed(daemon, why, CALL=call)
    assert "Cause (input_late_ms): the connection from the carrier to the bridge stalls at times" in cause
    # The page shows no figure, line or cause that a person would look for in vain.
    assert next(_shape(shown_call)) == next(_shape(found))
    for told in map(json.loads, shown_log.splitlines()):
        (line,) = (line for line in lines if line["event"] == told["event"])
        assert told.keys() - {"…"} <= line.keys()
    assert {line.split("{")[0].split()[0] for line in shown_metrics.splitlines()} <= {
        line.split("{")[0].split()[0] for line in page.splitlines()
    }
    of_cause = {line.removesuffix(" HIGH") for line in _shape(cause)}
    assert [
        line for line in _shape(shown_cause) if line.removesuffix(" HIGH") not in of_cause and "Cause" in line
    ] == []
    assert {line.split()[0] for line in _shape(shown_cause)} <= {line.split()[0] for line in of_cause}


@pytest.mark.slow
async def test_a_caller_over_webrtc_whose_packets_were_lost(daemon: Serving, short_pcm: bytes) -> None:
    """A gateway of telephones that calls over WebRTC and tells the number: the same commands name another cause."""
    session = {"metadata": {"from": "+49 30 1234567"}}
    async with Relay(daemon.udp_port, seed=3) as relay:
        headers = {"Authorization": f"Bearer {_KEY}"}
        peer = RealPeer(daemon.url, path="v1/realtime", headers=headers, session=session, through=relay.through)
        async with peer:
            relay.loss = 0.2
            await peer.speak(short_pcm)
            relay.loss = 0.0
    (find, _), (log, _), (metrics, _), (why, _) = _commands()
    call, sound = _call_in(await _typed(daemon, find, NUMBER="030 1234567"))
    assert "lost" in sound
    lines = [json.loads(line) for line in (await _typed(daemon, log, CALL=call)).splitlines()]
    assert next(line for line in lines if line["event"] == "call.closed")["lost"] > 10
    assert _metric(await _typed(daemon, metrics), "bridge_rtp_packets_lost_total") > 10
    cause = await _typed(daemon, why, CALL=call)
    assert "Cause (lost): the network between the caller and the bridge loses packets." in cause
