"""Genesys AudioHook Monitor: a conversation of two channels is listened to, and gets nothing but words back."""

import asyncio
import base64
import json
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from bridge.client import CallFailed
from bridge.client.carriers.contract import silence_of
from bridge.client.carriers.dialling import SocketWire, open_socket
from bridge.client.carriers.genesys import GenesysCarrier, signed_headers
from bridge.daemon import Daemon
from bridge.errors import BadRequest
from bridge.media.mix import mix_interleaved
from bridge.telephony.audiohook.dialect import AudioHook
from bridge.telephony.dialect import CallStarted
from bridge.wire.audio import G711_ULAW, pcm16_at
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import open_socket as open_listener
from tests.end_to_end.web import request
from tests.machine import scaled
from tests.telephony.calling import figures, gone, opened, to_telephone, until

_SECRET, _KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "a2V5LTE="
_SETTINGS: dict[str, Any] = {
    "public_url": "https://bridge.example.com",
    "audiohook_api_key": (_KEY,),
    "audiohook_client_secret": (_SECRET,),
}
_BOTH = ["external", "internal"]
_LIMIT_S = scaled(15.0)


def _media(format_name: str, *channels: str) -> dict[str, Any]:
    return {"type": "audio", "format": format_name, "channels": list(channels), "rate": 8000}


class _Monitor(GenesysCarrier):
    """Genesys' side: it offers what its client offers, interleaves both channels, and takes no sound."""

    def __init__(self, session_id: str, *, is_probe: bool = False) -> None:
        super().__init__(session_id, "PCMU", G711_ULAW, {})
        self._media = _media("PCMU", *_BOTH)
        self.continued: list[Any] = []
        self._conversation = str(uuid4()) if not is_probe else "00000000-0000-0000-0000-000000000000"

    def opening_messages(self) -> list[str | bytes]:
        """``open``."""
        participant = {"id": str(uuid4()), "ani": "+15550001111", "aniName": "", "dnis": "+15550002222"}
        return [
            self._say(
                "open",
                organizationId="11111111-0000-4000-8000-000000000001",
                conversationId=self._conversation,
                participant=participant,
                media=[self._media],
                language="en-US",
                customConfig={"tenant": "a"},
                **({"continuedSessions": self.continued} if self.continued else {}),
            )
        ]

    def _sound(self, sound: bytes) -> list[str | bytes]:
        self.complaints.append("415 unexpected binary message")
        return []

    @property
    def is_opened(self) -> bool:
        """``opened`` has come."""
        return self._is_opened


@asynccontextmanager
async def _connected(daemon: Daemon, monitor: _Monitor, query: str = "") -> AsyncIterator[SocketWire]:
    """The session, open; it reads what comes until the end of the block."""
    path = f"/v1/telephony/audiohook{query}"
    headers = signed_headers(_SECRET, _KEY, path, "bridge.example.com", monitor._id)
    wire = await open_socket(f"{daemon.url.replace('http', 'ws', 1).rstrip('/')}{path}", headers=headers)

    async def read() -> None:
        while (message := await wire.receive_message()) is not None:
            await wire.send_messages(monitor.receive_bridge_message(message))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await wire.send_messages(monitor.opening_messages())
        yield wire
        await wire.send_messages(monitor.hang_up_messages())
        await wire.close()


def _interleaved(external: bytes, internal: bytes) -> bytes:
    return bytes(sample for pair in zip(external, internal, strict=True) for sample in pair)


async def _say(wire: SocketWire, both: bytes) -> None:
    """In frames of 20 ms, and then the silence by which a turn is known to be over."""
    for at in range(0, len(both) + 320 * 60, 320):
        await wire.send_messages([both[at : at + 320] or silence_of(G711_ULAW) * 2])


@pytest.mark.parametrize(("query", "channel"), [("", 0), ("?channel=internal", 1)])
async def test_one_of_two_channels_is_heard(serve_with: ServeWith, short_pcm: bytes, query: str, channel: int) -> None:
    """A listener gets the customer, or the agent, and the turn; nobody answers, and no sound goes back."""
    spoken = to_telephone(short_pcm, G711_ULAW)
    silent = silence_of(G711_ULAW)[:1] * len(spoken)
    both = _interleaved(*((spoken, silent) if channel == 0 else (silent, spoken)))
    async with serve_with(**_SETTINGS) as daemon:
        monitor = _Monitor(str(uuid4()))
        async with _connected(daemon, monitor, query) as wire:
            session = await opened(daemon)
            await until(daemon, lambda: monitor.is_opened, "opened")
            assert session.info.metadata.items() >= {"tenant": "a", "language": "en-US", "ani": "+15550001111"}.items()
            async with open_listener(daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
                await _say(wire, both)
                await listener.until("input_audio_buffer.committed")
                heard = b"".join(
                    base64.b64decode(event["audio"])
                    for event in listener.events
                    if event["type"] == "input_audio_buffer.append"
                )
            assert not [event for event in listener.events if event["type"].startswith("response.")]
        await gone(daemon)
    assert monitor.complaints == []
    assert match(samples_of(heard), samples_of(short_pcm)).correlation > 0.9


async def test_both_channels_are_heard_as_one(serve_with: ServeWith, short_pcm: bytes) -> None:
    """Mixed: who speaks after the other is heard as well, by listeners and by the turns."""
    spoken = to_telephone(short_pcm, G711_ULAW)
    silent = silence_of(G711_ULAW)[:1] * len(spoken)
    both = _interleaved(spoken + silent, silent + spoken)
    async with serve_with(**_SETTINGS) as daemon:
        async with _connected(daemon, _Monitor(str(uuid4())), "?channel=both") as wire:
            session = await opened(daemon)
            async with open_listener(daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
                await _say(wire, both)
                await listener.until("input_audio_buffer.committed")
                heard = b"".join(
                    base64.b64decode(event["audio"])
                    for event in listener.events
                    if event["type"] == "input_audio_buffer.append"
                )
        await gone(daemon)
    assert match(samples_of(heard), samples_of(short_pcm * 2)).correlation > 0.9


async def test_a_session_goes_on_with_another(serve_with: ServeWith) -> None:
    """One that broke is the same call if the next names it in ``continuedSessions``; else the next is a new one."""
    async with serve_with(**_SETTINGS, carrier_grace_s=60) as daemon:
        first, second = _Monitor(str(uuid4())), _Monitor(str(uuid4()))
        second.continued = [{"id": first._id, "serverSeq": 1, "clientSeq": 1}]
        async with _connected(daemon, first) as wire:
            session = await opened(daemon)
            wire.cut()
        async with _connected(daemon, second):
            await until(daemon, lambda: figures(session)["returns"] == 1, "return")
            assert daemon.registry.sessions == [session]
            assert second.is_opened
            async with _connected(daemon, _Monitor(str(uuid4()))):
                await until(daemon, lambda: len(daemon.registry.sessions) == 2, "another call")


async def test_an_answer_is_for_listeners_alone(serve_with: ServeWith, short_pcm: bytes) -> None:
    """Who asks for one gets it; Genesys, which would end the session at a binary message, does not."""
    async with serve_with(**_SETTINGS) as daemon:
        monitor = _Monitor(str(uuid4()))
        async with _connected(daemon, monitor) as wire:
            session = await opened(daemon)
            async with open_listener(daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
                spoken = to_telephone(short_pcm, G711_ULAW)
                await _say(wire, _interleaved(spoken, b"\xff" * len(spoken)))
                await listener.until("input_audio_buffer.committed")
                await listener.send({"type": "response.create"})
                await listener.until("response.done")
            assert any(event["type"] == "response.output_audio.delta" for event in listener.events)
            await request("DELETE", f"{daemon.url}v1/realtime/calls/{session.info.id}")
            await until(daemon, lambda: monitor.has_hung_up, "goodbye")
    assert monitor.complaints == []


async def test_probe(serve_with: ServeWith) -> None:
    """Activating the integration opens a session that is answered, and is no call."""
    async with serve_with(**_SETTINGS) as daemon:
        monitor = _Monitor(str(uuid4()), is_probe=True)
        async with _connected(daemon, monitor):
            await until(daemon, lambda: monitor.is_opened, "opened")
            assert daemon.registry.sessions == []
    assert monitor.complaints == []


async def test_upgrade(serve_with: ServeWith) -> None:
    """Without the signature, or for a channel that there is not, it is refused before any message."""
    async with serve_with(**_SETTINGS) as daemon:
        url = f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/audiohook"
        for query, secret, code in (
            ("", "d3Jvbmc=", "invalid_signature"),
            ("?channel=third", _SECRET, "invalid_value"),
        ):
            headers = signed_headers(
                secret, _KEY, f"/v1/telephony/audiohook{query}", "bridge.example.com", str(uuid4())
            )
            with pytest.raises(CallFailed) as refused:
                await open_socket(f"{url}{query}", headers=headers)
            assert refused.value.code == code


# The dialect


def _opened(dialect: AudioHook, *media: dict[str, Any]) -> CallStarted:
    said = {"version": "2", "type": "open", "seq": 1, "id": "s", "parameters": {"media": list(media)}}
    started = dialect.decode_message(json.dumps(said))[0]
    assert isinstance(started, CallStarted)
    return started


@pytest.mark.parametrize(
    ("channel", "media", "sound", "heard"),
    [
        ("external", [_media("PCMU", *_BOTH)], b"aAbB", b"ab"),
        ("internal", [_media("PCMU", *_BOTH)], b"aAbB", b"AB"),
        ("external", [_media("PCMU", *_BOTH), _media("PCMU", "external")], b"ab", b"ab"),
        ("internal", [_media("PCMU", "external"), _media("PCMU", "internal")], b"AB", b"AB"),
        ("external", [_media("L16", *_BOTH)], array("h", [1, -1, 2, -2]).tobytes(), array("h", [1, 2]).tobytes()),
        ("internal", [_media("L16", *_BOTH)], array("h", [1, -1, 2, -2]).tobytes(), array("h", [-1, -2]).tobytes()),
        ("internal", [_media("L16", *_BOTH)], b"1234567", b"34"),
        ("both", [_media("L16", *_BOTH)], array("h", [1, -3, 2, 5]).tobytes(), array("h", [-2, 7]).tobytes()),
        (
            "both",
            [_media("L16", *_BOTH)],
            array("h", [30000, 30000, -9, -32768]).tobytes() + b"123",
            array("h", [32767, -32768]).tobytes(),
        ),
        (
            "both",
            [_media("PCMU", "external"), _media("PCMU", *_BOTH)],
            b"\xff\xff\xff\x80\x00\x00\xff",
            array("h", [0, 32124, -32768]).tobytes(),
        ),
    ],
)
def test_channels(channel: str, media: list[dict[str, Any]], sound: bytes, heard: bytes) -> None:
    """The channel alone if it is offered so, else its samples of both; or both together, as PCM16."""
    dialect = AudioHook(channel=channel, mix=mix_interleaved)
    started = _opened(dialect, *media)
    is_mulaw = media[0]["format"] == "PCMU" and channel != "both"
    assert started.audio_format is (G711_ULAW if is_mulaw else pcm16_at(8000))
    assert dialect.decode_message(sound) == [heard]
    assert dialect.encode_clear() == dialect.encode_mark("m") == dialect.encode_key("1") == []


def test_media_of_others_are_refused() -> None:
    """Another rate or codec, the other channel alone, none."""
    for media in (
        [],
        [_media("OPUS", *_BOTH)],
        [{**_media("PCMU", *_BOTH), "rate": 16000}],
        [_media("PCMU", "internal")],
    ):
        with pytest.raises(BadRequest, match="of external alone or of both"):
            _opened(AudioHook(), *media)
