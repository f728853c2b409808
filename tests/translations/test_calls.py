"""Translations as calls: over WebRTC, with listeners, recorded, counted, ended, and with a service that fails."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import EventLog
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.end_to_end.web import EventSocket, open_socket, open_watch, request
from tests.machine import scaled
from tests.translations.conftest import Relaying
from tests.translations.service import MODEL, Translation, TranslationService
from tests.upstream.service import Service, Visit

pytestmark = pytest.mark.anyio

_LIMIT_S = scaled(15.0)
_PATHS = ["v1/realtime/translations/calls", "v1/realtime/calls"]


async def _minted(url: str, **more: Any) -> dict[str, str]:
    """The header with a key for a translation into German."""
    session = {"model": MODEL, "audio": {"output": {"language": "de"}}}
    body = json.dumps({"session": session, **more})
    reply = await request("POST", f"{url}v1/realtime/translations/client_secrets", body=body)
    assert reply.status == 200, reply
    return {"Authorization": f"Bearer {reply.json['value']}"}


async def _shown(url: str, call_id: str) -> Any:
    return (await request("GET", f"{url}v1/calls/{call_id}")).json


class _Owner(EventSocket):
    """The client of a translation over WebSocket."""

    async def speak(self, pcm: bytes) -> None:
        for at in range(0, len(pcm), 9600):
            audio = base64.b64encode(pcm[at : at + 9600]).decode()
            await self.send({"type": "session.input_audio_buffer.append", "audio": audio})


class _Opened:
    """``async with`` opens a translation over WebSocket."""

    def __init__(self, url: str, query: str = f"model={MODEL}", **options: Any) -> None:
        self._address = f"{url.replace('http', 'ws', 1)}v1/realtime/translations?{query}"
        self._options = options

    async def __aenter__(self) -> _Owner:
        self._connection = await connect(self._address, compression=None, proxy=None, max_size=None, **self._options)
        self.owner = _Owner(self._connection)
        self._reading = asyncio.create_task(self.owner.read())
        await self.owner.until("session.created")
        return self.owner

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.close()
        await self._reading


def _call_id(owner: EventLog) -> str:
    return str(owner.events[0]["session"]["id"])


@pytest.mark.parametrize("path", _PATHS)
async def test_over_webrtc(relaying: Relaying, service: TranslationService, short_pcm: bytes, path: str) -> None:
    """By both spellings: sound is on the tracks, all else on the channel, and what is left is heard before the end."""
    async with relaying() as daemon:
        async with RealPeer(daemon.url, path=path, headers=await _minted(daemon.url)) as peer:
            peer.send({"type": "session.update", "event_id": "mine",
                       "session": {"audio": {"input": {"transcription": {"model": "any"}}}}})  # fmt: skip
            await peer.until("session.updated")
            await peer.speak(short_pcm)
            peer.send({"type": "session.close"})
            await peer.until("session.closed")
            async with asyncio.timeout(_LIMIT_S):
                await peer.gone.wait()
            heard = samples_of(peer.heard)
    assert peer.events[0]["session"]["audio"]["output"]["language"] == "de"
    assert set(peer.types) == {
        "session.created", "session.updated", "session.input_transcript.delta", "session.output_transcript.delta",
        "session.closed",
    }  # fmt: skip
    words = "".join(event["delta"] for event in peer.of("session.output_transcript.delta"))
    assert words.startswith("de1 de2 ")
    assert words.endswith("(end)")
    assert peer.types.count("session.closed") == 1
    assert stretched_likeness(heard, samples_of(short_pcm[: 2 * 24 * 2200])) > PLAYED_LIKENESS
    assert service.translations[0].was_closed


async def test_sound_is_no_event_over_webrtc(bridge: Daemon) -> None:
    """A peer's sound comes with its track: an append is refused, and the call goes on."""
    async with RealPeer(bridge.url, path=_PATHS[0], headers=await _minted(bridge.url)) as peer:
        peer.send({"type": "session.input_audio_buffer.append", "audio": "AAAA", "event_id": "mine"})
        refused = (await peer.until("error"))["error"]
        assert (refused["event_id"], refused["param"]) == ("mine", "type")


async def test_time_passes_for_the_service_while_nobody_speaks(
    bridge: Daemon, service: TranslationService, short_pcm: bytes
) -> None:
    """A peer that sends no packet is silence, second for second: before its first word, and between words."""
    loop = asyncio.get_running_loop()
    async with RealPeer(bridge.url, path=_PATHS[0], headers=await _minted(bridge.url)) as peer:
        translation, began = await service.translation(), loop.time()
        await translation.until_heard(2.0)
        assert 1.5 < loop.time() - began < scaled(4.0)
        assert not any(translation.heard)
        await peer.speak(short_pcm)
        await translation.until_heard(len(translation.heard) / 48_000 + 2.0)
        passed_s = loop.time() - began
    heard_s = len(translation.heard) / 48_000
    assert passed_s - 1.2 < heard_s < passed_s + 0.5, (passed_s, heard_s)
    assert np.abs(samples_of(bytes(translation.heard))).max() > 1000


async def test_an_offer_with_its_translation(bridge: Daemon, service: TranslationService) -> None:
    """Without a minted key: the model is on the URL, or in the form; without either the field is named."""
    async with RealPeer(bridge.url, path=f"{_PATHS[0]}?model=by-url"):
        assert (await service.translation()).model == "by-url"
    for path in _PATHS:
        async with RealPeer(bridge.url, path=path, session={"type": "translation", "model": "by-form"}):
            assert (await service.translation(_PATHS.index(path) + 2)).model == "by-form"
    reply = await request("POST", f"{bridge.url}{_PATHS[0]}", headers={"Content-Type": "application/sdp"}, body="v=0")
    assert (reply.status, reply.json["error"]["param"]) == (400, "model")


async def test_what_was_translated_is_counted_here(bridge: Daemon, short_pcm: bytes) -> None:
    """In the call's figures while it runs, in those of ended calls, and in the metric; no service reports it."""
    async with _Opened(bridge.url) as owner:
        await owner.speak(short_pcm)
        await owner.send({"type": "session.close"})
        await owner.until("session.closed")
        assert await owner.close_code() == 1000
    ended = (await request("GET", f"{bridge.url}v1/calls?ended=1")).json["data"][0]
    seconds = len(short_pcm) / 48_000
    assert (ended["id"], ended["result"]) == (_call_id(owner), "success")
    assert (ended["upstream"]["input_seconds"], ended["upstream"]["output_seconds"]) == (seconds, seconds)
    metrics = (await request("GET", f"{bridge.url}metrics")).body.decode()
    for direction in ("input", "output"):
        assert f'bridge_translated_seconds_total{{direction="{direction}"}} {seconds}' in metrics


async def test_the_end_of_a_call_tells_its_seconds(
    bridge: Daemon, service: TranslationService, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log's line of a call that its client has left has them, and one more tells what came while it was closed."""
    async with _Opened(bridge.url) as owner:
        await owner.speak(bytes(2 * 48_000))
        await owner.until("session.output_audio.delta", number=8)
    told = ""
    async with asyncio.timeout(_LIMIT_S):
        while "upstream.drained" not in told:
            await asyncio.sleep(0.01)
            told += capsys.readouterr().out
    assert service.translations[0].was_closed
    assert "'input_seconds': 2.0" in told
    assert "output_seconds=0.4" in told


async def test_listeners_hear_it_in_its_own_words(bridge: Daemon, short_pcm: bytes) -> None:
    """Samples, binary frames and Opus; whatever dialect a listener asks for, its events are those of translations."""
    async with _Opened(bridge.url) as owner:
        call_id = _call_id(owner)
        async with (
            open_socket(bridge.url, f"call_id={call_id}&audio=pcm16&role=observer") as plain,
            open_socket(bridge.url, f"call_id={call_id}&audio=opus&tracks=output") as opus,
            open_socket(
                bridge.url,
                f"call_id={call_id}&audio=pcm16&rate=16000",
                additional_headers={"OpenAI-Beta": "realtime=v1"},
            ) as beta,
        ):
            await owner.speak(short_pcm)
            await owner.until("session.output_transcript.delta", number=2)
            await owner.send({"type": "session.close"})
            for listener in (plain, opus, beta):
                await listener.until("session.closed")
                assert await listener.close_code() == 1000
    for kind, field in (("session.input_audio_buffer.append", "audio"), ("session.output_audio.delta", "delta")):
        assert b"".join(base64.b64decode(event[field]) for event in plain.of(kind)) == short_pcm
        assert beta.of(kind)
    assert opus.of("session.output_audio.delta")
    assert not opus.of("session.input_audio_buffer.append")
    for listener in (plain, opus, beta):
        assert all(kind.startswith(("session.", "bridge.")) for kind in listener.types), set(listener.types)


async def test_an_observer_may_not_close_it(bridge: Daemon) -> None:
    """Whoever may only listen changes nothing; a controller may."""
    async with _Opened(bridge.url) as owner:
        async with open_socket(bridge.url, f"call_id={_call_id(owner)}&role=observer") as observer:
            await observer.send({"type": "session.close", "event_id": "mine"})
            assert (await observer.until("error"))["error"]["code"] == "forbidden"
        async with open_socket(bridge.url, f"call_id={_call_id(owner)}&role=controller") as controller:
            await controller.send({"type": "session.close"})
            await owner.until("session.closed")


def _recorded(folder: Path) -> tuple[Any, set[str]]:
    """Both sides of the one recording, and the names of its events."""
    [sound], [events] = folder.glob("*.wav"), folder.glob("*.jsonl")
    sides = np.frombuffer(sound.read_bytes()[44:], "<i2").reshape(-1, 2).T.astype(np.float64)
    return sides, {json.loads(line)["event"]["type"] for line in events.read_text().splitlines()}


async def test_it_is_recorded(
    service: TranslationService, serve_with: ServeWith, tmp_path: Path, short_pcm: bytes
) -> None:
    """Both languages in stereo, and the words with their times."""
    settings: Any = {"record_dir": str(tmp_path), "record_calls": True, "record_format": "wav"}
    upstream: Any = {"upstream": service.url, "upstream_key": "sk-theirs"}
    async with serve_with(**settings, **upstream) as daemon, open_watch(daemon.url) as watch:
        async with RealPeer(daemon.url, path=_PATHS[0], headers=await _minted(daemon.url)) as peer:
            await peer.speak(short_pcm)
            peer.send({"type": "session.close"})
            await peer.until("session.closed")
        await watch.until("bridge.recording.ended")
    sides, kinds = _recorded(tmp_path)
    for side in sides:
        assert stretched_likeness(side, samples_of(short_pcm[: 2 * 24 * 2200])) > PLAYED_LIKENESS
    assert {"session.created", "session.output_transcript.delta", "session.closed"} <= kinds


async def test_the_operator_hangs_up(bridge: Daemon, service: TranslationService) -> None:
    """Its client is told ``session.closed`` before the socket closes, and the service is told as well."""
    async with _Opened(bridge.url) as owner:
        await owner.speak(bytes(48_000))
        await request("POST", f"{bridge.url}v1/realtime/calls/{_call_id(owner)}/hangup")
        assert await owner.close_code() == 1000
    assert owner.types[-1] == "session.closed"
    async with asyncio.timeout(_LIMIT_S):
        await service.translations[0].ended.wait()
    assert service.translations[0].was_closed


async def _cut(translation: Translation) -> None:
    translation.socket.transport.abort()


async def test_a_service_that_is_lost_is_dialled_again(
    bridge: Daemon, service: TranslationService, short_pcm: bytes
) -> None:
    """Clients are told once; the translation goes on in the language that it had, and is one call with one count."""
    async with _Opened(bridge.url) as owner:
        await owner.send({"type": "session.update", "session": {"audio": {"output": {"language": "de"}}}})
        await owner.until("session.updated")
        await owner.speak(bytes(48_000))
        first = await service.translation()
        await first.until_heard(1.0)
        await _cut(first)
        assert (await owner.until("error"))["error"]["code"] == "upstream_reconnecting"
        await owner.until("session.updated", number=2)
        await owner.speak(short_pcm)
        await owner.send({"type": "session.close"})
        await owner.until("session.closed")
        upstream = (await request("GET", f"{bridge.url}v1/calls?ended=1")).json["data"]
    second = await service.translation(2)
    assert second.audio["output"]["language"] == "de"
    assert bytes(second.heard) == short_pcm
    assert "de1 " in [event["delta"] for event in owner.of("session.output_transcript.delta")]
    assert owner.types.count("session.created") == owner.types.count("session.closed") == 1
    assert not upstream or upstream[0]["upstream"]["lines"] == 2


async def test_an_owner_whose_socket_broke_comes_back(
    service: TranslationService, serve_with: ServeWith, short_pcm: bytes
) -> None:
    """By ``session_id``, within its grace time, to the same translation."""
    settings: Any = {"upstream": service.url, "upstream_key": "sk-theirs", "resume_grace_s": 30.0}
    async with serve_with(**settings) as daemon:
        async with _Opened(daemon.url) as owner:
            await owner.speak(short_pcm)
            await owner.until("session.output_transcript.delta")
            owner.connection.transport.abort()
            async with asyncio.timeout(_LIMIT_S):
                await owner.closed.wait()
        last = owner.events[-1]["event_id"]
        async with open_socket(daemon.url, f"session_id={_call_id(owner)}&after={last}", first=None) as again:
            await again.send({"type": "session.close"})
            await again.until("session.closed")
    assert len(service.translations) == 1
    assert {kind for kind in again.types if not kind.startswith("bridge.")} <= {
        "session.output_audio.delta", "session.output_transcript.delta", "session.closed",
    }  # fmt: skip


async def test_keys_and_limits_are_those_of_any_call(service: TranslationService, serve_with: ServeWith) -> None:
    """A key has as many calls as the settings say, a single use is one use, and a wrong key is 401."""
    settings: Any = {"upstream": service.url, "upstream_key": "sk-theirs", "max_calls_per_key": 1}
    async with serve_with(**settings) as daemon:
        header = await _minted(daemon.url)
        async with _Opened(daemon.url, "", additional_headers=header) as owner:
            listed = (await request("GET", f"{daemon.url}v1/calls", headers=header)).json["data"]
            assert [(call["id"], call["model"]) for call in listed] == [(_call_id(owner), MODEL)]
            with pytest.raises(Exception, match="429"):
                async with _Opened(daemon.url, "", additional_headers=header):
                    pass
        once = await _minted(daemon.url, bridge={"single_use": True})
        async with _Opened(daemon.url, "", additional_headers=once) as owner:
            await owner.send({"type": "session.close"})
            await owner.close_code()
        with pytest.raises(Exception, match="401"):
            async with _Opened(daemon.url, "", additional_headers=once):
                pass
        with pytest.raises(Exception, match="401"):
            async with _Opened(daemon.url, additional_headers={"Authorization": "Bearer ek_wrong"}):
                pass
        with pytest.raises(Exception, match="400"):
            async with _Opened(daemon.url, "intent=transcription"):
                pass


async def test_a_service_that_never_closes(serve_with: ServeWith) -> None:
    """It is waited for within a deadline; then the client is told that the translation is closed all the same."""
    visits: list[Visit] = []

    async def silent(visit: Visit) -> None:
        visits.append(visit)
        session = {"id": "s", "type": "translation", "model": "m", "expires_at": 1, "audio": {}}
        await visit.say("session.created", session=session)
        await visit.until_closed()

    async with Service.serving(silent) as deaf, serve_with(upstream=deaf.url, upstream_fallback=()) as daemon:
        async with _Opened(daemon.url) as owner:
            began = asyncio.get_running_loop().time()
            await owner.send({"type": "session.close"})
            assert await owner.close_code() == 1000
            assert 4.0 < asyncio.get_running_loop().time() - began < scaled(8.0)
        assert owner.types[-1] == "session.closed"
    assert [event["type"] for event in visits[0].events] == ["session.close"]


async def test_sound_that_is_none_ends_the_line(serve_with: ServeWith) -> None:
    """Of a service that says another rate than translations have, nothing is played as if it were right."""

    async def strange(visit: Visit) -> None:
        session = {"id": "s", "type": "translation", "model": "m", "expires_at": 1, "audio": {}}
        await visit.say("session.created", session=session)
        await visit.say("session.output_audio.delta", delta="AAAA", sample_rate=16_000)
        await visit.until_closed()

    async with Service.serving(strange) as service:
        settings: Any = {"upstream": service.url, "upstream_fallback": (), "upstream_tries": 1}
        async with serve_with(**settings) as daemon, _Opened(daemon.url) as owner:
            await owner.close_code()
    assert owner.of("error")[-1]["error"]["code"] == "upstream_protocol"
    assert not owner.of("session.output_audio.delta")
