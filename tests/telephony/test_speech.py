"""Whole calls of each dialect: speech goes in, the answer comes back, and listeners hear both."""

import asyncio
from typing import Any

import pytest

from bridge.client.carriers.table import CARRIERS
from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound, outbound_sound, stream_numbers
from tests.end_to_end.sound import match, resample, samples_of
from tests.end_to_end.web import open_socket, request
from tests.telephony.calling import Caller, calling, dialling, session_of
from tests.telephony.rows import ROWS

pytestmark = [pytest.mark.slow, pytest.mark.alone]


async def _converse(where: Any, pcm: bytes) -> Caller:
    async with calling(where) as caller:
        caller.say(pcm)
        await caller.hear_answer()
    return caller


async def test_speech_through_each_dialect(open_daemon: Daemon, short_pcm: bytes) -> None:
    """The embedded engine hears it and speaks it back, intelligibly; where the carrier buffers, no frame is late."""
    calls: dict[str, asyncio.Task[Caller]] = {}
    for half in (CARRIERS[::2], CARRIERS[1::2]):  # callers and bridge share one loop: not all of them at once
        async with asyncio.TaskGroup() as tasks:
            calls |= {name: tasks.create_task(_converse(dialling(open_daemon, name), short_pcm)) for name in half}
    for name, call in calls.items():
        caller = call.result()
        if not ROWS[name].has_buffer:
            assert caller.likeness(short_pcm) > 0.9
            continue
        rate_hz = caller.answer_format.rate_hz
        found = match(caller.heard, resample(samples_of(short_pcm), 24_000, rate_hz))
        assert found.correlation > 0.95, name
        assert caller.phone.carrier.complaints == [], name
        assert caller.phone.carrier.late_frames == 0, name


async def test_speech_in_other_formats(open_daemon: Daemon, short_pcm: bytes) -> None:
    """A-law, and PCM of Telnyx and Asterisk at every rate, are served; each way in its own format."""
    await _converse_intelligibly(
        [
            dialling(open_daemon, "telnyx", codec="PCMA"),
            dialling(open_daemon, "telnyx", codec="L16", answer_codec="L16"),
            dialling(open_daemon, "telnyx", codec="PCMA", answer_codec="L16"),
            dialling(open_daemon, "asterisk", codec="alaw"),
            dialling(open_daemon, "asterisk", codec="slin16"),
            dialling(open_daemon, "asterisk", codec="slin48"),
        ],
        short_pcm,
    )


async def test_speech_in_formats_of_audiosocket(open_daemon: Daemon, short_pcm: bytes) -> None:
    """PCM at AudioSocket's rates is served."""
    for codec in ("slin16", "slin24", "slin44", "slin192"):
        uuid = (await request("POST", f"{open_daemon.url}v1/telephony/audiosocket")).json["uuid"]
        caller = await _converse(dialling(open_daemon, "audiosocket", codec=codec, secret=uuid), short_pcm)
        assert caller.likeness(short_pcm) > 0.9, codec


async def _converse_intelligibly(chosen: list[Any], pcm: bytes) -> None:
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(_converse(where, pcm)) for where in chosen]
    for where, call in zip(chosen, calls, strict=True):
        caller = call.result()
        found = match(caller.heard, resample(samples_of(pcm), 24_000, caller.answer_format.rate_hz))
        assert found.correlation > 0.95, where
        assert caller.phone.carrier.complaints == []


async def test_g711_is_passed_through(open_daemon: Daemon, short_pcm: bytes) -> None:
    """A listener that asks for the carrier's own law gets the caller's very bytes, one event for each message."""
    async with calling(dialling(open_daemon, "twilio")) as caller:
        session = await session_of(open_daemon, caller)
        query = f"call_id={session.info.id}&audio=g711_ulaw"
        async with open_socket(open_daemon.url, query) as listener:
            caller.say(short_pcm)
            await listener.until("response.done")
        appends = listener.of("input_audio_buffer.append")
    assert stream_numbers(appends) == list(range(1, len(appends) + 1))
    assert inbound_sound(appends) in bytes(caller.said)
    assert len(inbound_sound(appends)) == 160 * len(appends)


async def test_listeners_hear_a_telephone_call_like_any(open_daemon: Daemon, short_pcm: bytes) -> None:
    """In the format that they ask for, with the answer's playback told as the carrier's marks have it."""
    async with calling(dialling(open_daemon, "twilio")) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
            caller.say(short_pcm)
            await listener.until("output_audio_buffer.stopped")
        await caller.hear_answer()
    spoken = samples_of(short_pcm)
    assert match(samples_of(inbound_sound(listener.events)), spoken).correlation > 0.95
    answer = samples_of(outbound_sound(listener.events))
    assert match(answer, spoken).correlation > 0.95
    assert match(caller.heard, resample(answer, 24_000, 8000)).correlation > 0.95
    started, stopped = (listener.types.index(f"output_audio_buffer.{what}") for what in ("started", "stopped"))
    assert listener.types.index("response.created") < started < stopped


async def test_a_call_is_listed_with_what_it_brought(open_daemon: Daemon) -> None:
    """The carrier's parameters are the call's metadata, but not its token; the figures are the leg's."""
    async with calling(dialling(open_daemon, "twilio", parameters={"lang": "en"})) as caller:
        session = await session_of(open_daemon, caller)
        [call] = (await request("GET", f"{open_daemon.url}v1/calls")).json["data"]
    assert (call["id"], call["transport"], call["state"]) == (session.info.id, "twilio", "connected")
    metadata = call["metadata"]
    assert metadata.pop("carrier_call_id").startswith("CA")
    assert metadata == {"lang": "en", "from": "+15550001111", "to": "+15550002222"}
    assert call["peer"]["is_connected"] is True
    assert call["peer"]["faults"] == 0
