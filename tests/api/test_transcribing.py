"""Sessions that only write down what is said, with an upstream that is dialled."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.config import NamedUpstream
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.upstream.service import Event, Service, Visit

_BETA = {"OpenAI-Beta": "realtime=v1"}
_JSON = {"Content-Type": "application/json"}
_TRANSCRIPTION = {"model": "gpt-4o-transcribe", "language": "en"}
_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200}
_SECOND = base64.b64encode(bytes(48_000)).decode()
_WORDS = "Hello there."


async def _transcribe(visit: Visit) -> None:
    """A GA service that finds the turn, and writes down what was said in it."""
    session: Event = {"type": "transcription", "id": "sess_theirs", "object": "realtime.transcription_session"}
    session |= {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": _VAD}}}
    await visit.say("session.created", session=session)
    await visit.hear("session.update")
    await visit.say("session.updated", session=session)
    await _write_down(visit)


async def _transcribe_in_beta(visit: Visit) -> None:
    """The same in the beta dialect."""
    session: Event = {"id": "sess_theirs", "object": "realtime.transcription_session", "turn_detection": _VAD}
    await visit.say("transcription_session.created", session=session)
    await visit.hear("transcription_session.update")
    await visit.say("transcription_session.updated", session=session)
    await _write_down(visit)


async def _write_down(visit: Visit) -> None:
    while not visit.sound_events:
        await visit.hear("input_audio_buffer.append")
        visit.sound_events += 1
    await visit.say("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_1")
    await visit.say("input_audio_buffer.speech_stopped", audio_end_ms=800, item_id="item_1")
    await visit.say("input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
    part = {"type": "input_audio", "transcript": None}
    item = {"id": "item_1", "type": "message", "role": "user", "status": "completed", "content": [part]}
    await visit.say("conversation.item.added", item=item, previous_item_id=None)
    completed = "conversation.item.input_audio_transcription.completed"
    await visit.say(completed, item_id="item_1", content_index=0, transcript=_WORDS, usage={"type": "tokens"})
    await visit.until_closed()


@asynccontextmanager
async def _opened(serve_with: ServeWith, url: str, door: str, profile: str) -> AsyncIterator[EventSocket]:
    """A transcription session, opened in one of the ways there are."""
    far = NamedUpstream(url=url, profile=profile)
    first = "transcription_session.created" if door.startswith("beta") else "session.created"
    async with serve_with(upstream="far", upstreams={"far": far}) as daemon:
        query, headers = "intent=transcription", dict(_BETA) if door == "beta" else {}
        if door == "beta model":  # its SDK cannot leave the model out
            query, headers = "model=gpt-4o-transcribe&intent=transcription", dict(_BETA)
        elif door.endswith("key"):
            path = "client_secrets"
            body: Event = {"session": {"type": "transcription", "audio": {"input": {"transcription": _TRANSCRIPTION}}}}
            if door == "beta key":
                path, body = "transcription_sessions", {"input_audio_transcription": _TRANSCRIPTION}
            minted = await request("POST", f"{daemon.url}v1/realtime/{path}", headers=_JSON, body=json.dumps(body))
            secret = minted.json["client_secret"]["value"] if door == "beta key" else minted.json["value"]
            headers = {"Authorization": f"Bearer {secret}"}
        async with open_socket(daemon.url, query, first=first, additional_headers=headers) as client:
            yield client


@pytest.mark.parametrize("profile", ["openai", "azure-preview"])
@pytest.mark.parametrize("door", ["ga", "beta", "beta model", "key", "beta key"])
async def test_an_upstream_is_dialled_with_the_intent(serve_with: ServeWith, door: str, profile: str) -> None:
    """The service opens such a session, its turn detection is what clients see, and its words come through."""
    is_beta_service = profile == "azure-preview"
    script = _transcribe_in_beta if is_beta_service else _transcribe
    async with Service.serving(script) as service, _opened(serve_with, service.url, door, profile) as client:
        created = client.events[0]["session"]
        is_beta = door.startswith("beta")
        turns = created["turn_detection"] if is_beta else created["audio"]["input"]["turn_detection"]
        assert {name: turns[name] for name in _VAD} == _VAD
        await client.send({"type": "input_audio_buffer.append", "audio": _SECOND})
        words = await client.until("conversation.item.input_audio_transcription.completed")
        assert words["transcript"] == _WORDS
        [visit] = service.visits
        query = visit.path.partition("?")[2]
        assert query == (
            "api-version=2025-04-01-preview&intent=transcription" if is_beta_service else "intent=transcription"
        )
        [update] = visit.events[:1]
        if is_beta_service:
            wanted: Event = {"input_audio_transcription": _TRANSCRIPTION} if door.endswith("key") else {}
            assert (update["type"], update["session"]) == ("transcription_session.update", wanted)
        else:
            sound = {"audio": {"input": {"transcription": _TRANSCRIPTION}}} if door.endswith("key") else {}
            assert update["session"] == {"type": "transcription", **sound}
    assert client.of("error", "conversation.created", "response.created") == []


@pytest.mark.parametrize("door", ["socket", "peer"])
async def test_an_upstream_over_webrtc_is_asked_for_transcription(
    serve_with: ServeWith, short_pcm: bytes, door: str
) -> None:
    """The offer says so: the service begins such a session, takes a turn, and answers nothing."""
    failed = "conversation.item.input_audio_transcription.failed"  # the parrot has no words, and says that
    async with serve_with() as far, serve_with(upstream=f"{far.url}v1/realtime/calls") as daemon:
        if door == "socket":
            async with open_socket(daemon.url, "intent=transcription") as client:
                session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
                await client.send({"type": "session.update", "session": session})
                await client.until("session.updated")
                for at in range(0, len(short_pcm), 48_000):
                    audio = base64.b64encode(short_pcm[at : at + 48_000]).decode()
                    await client.send({"type": "input_audio_buffer.append", "audio": audio})
                await client.until(failed)
                events = client.events
                [theirs] = far.registry.sessions
                assert (theirs.state.config.type, theirs.state.has_answers) == ("transcription", False)
        else:
            async with RealPeer(daemon.url, path="v1/realtime/calls?intent=transcription") as peer:
                await peer.until("session.created")
                await peer.microphone.speak(short_pcm)
                await peer.until("input_audio_buffer.committed")
                await peer.until(failed)
                events = peer.events
                [theirs] = far.registry.sessions
                assert theirs.state.config.type == "transcription"
    assert events[0]["session"]["object"] == "realtime.transcription_session"
    assert not any(event["type"].startswith("response.") for event in events)
