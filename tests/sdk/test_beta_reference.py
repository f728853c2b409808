"""A beta client as the beta reference describes it: its headers, its flat events, its way to a key and a call."""

import base64
import json
from typing import Any

from bridge.daemon import Daemon
from bridge.wire.stats import Dialect
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import encode
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.sdk.stock import BETA, without_repeats

_KEY = "sk-the-key-of-the-token-server"
_PAGE = "https://app.example"
_BETA_HEADER = {"OpenAI-Beta": "realtime=v1"}
_SDP = {"Content-Type": "application/sdp"}
_ON_THE_CHANNEL = [
    "session.created",
    "conversation.created",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]


async def _append(client: EventSocket, sound: bytes) -> None:
    for at in range(0, len(sound), 4096):
        audio = base64.b64encode(sound[at : at + 4096]).decode()
        await client.send({"type": "input_audio_buffer.append", "audio": audio, "timestamp": 1})


def _complaints(events: list[dict[str, Any]]) -> list[str]:
    return [complaint for event in events if (complaint := BETA.complaint(event))]


async def test_flat_session_update(daemon: Daemon) -> None:
    """The beta reference's fields stand at the top of ``session.update``; they are the session's all the same."""
    async with open_socket(daemon.url, "model=gpt-4o-realtime-preview", additional_headers=_BETA_HEADER) as client:
        await client.send(
            {
                "event_id": "event_123",
                "type": "session.update",
                "modalities": ["text", "audio"],
                "instructions": "Your knowledge cutoff is 2023-10.",
                "voice": "shimmer",
                "input_audio_format": "pcm16",
                "output_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 500,
                    "silence_duration_ms": 1000,
                },
                "tools": [{"type": "function", "name": "get_weather", "description": "", "parameters": {}}],
                "tool_choice": "auto",
                "temperature": 2.0,
                "max_output_tokens": 4096,
            }
        )
        session = (await client.until("session.updated"))["session"]
    assert session["instructions"] == "Your knowledge cutoff is 2023-10."
    assert (session["voice"], session["temperature"]) == ("shimmer", 2.0)
    assert session["max_response_output_tokens"] == 4096
    assert session["turn_detection"]["silence_duration_ms"] == 1000
    assert session["turn_detection"]["prefix_padding_ms"] == 500
    assert session["input_audio_transcription"]["model"] == "whisper-1"
    assert [tool["name"] for tool in session["tools"]] == ["get_weather"]
    assert _complaints(client.events) == []


async def test_conversation_in_the_references_words(daemon: Daemon, short_pcm: bytes) -> None:
    """Items with content of type ``text`` and ``audio``, a response with its own settings, in pcm16 and µ-law."""
    async with open_socket(daemon.url, "model=gpt-4o-realtime-preview", additional_headers=_BETA_HEADER) as client:
        await client.send({"type": "session.update", "turn_detection": None, "input_audio_format": "g711_ulaw"})
        await client.until("session.updated")
        message = {"type": "message", "status": "completed", "role": "user"}
        await client.send(
            {
                "type": "conversation.item.create",
                "previous_item_id": None,
                "item": {**message, "id": "msg_001", "content": [{"type": "text", "text": "Hello"}]},
            }
        )
        assert (await client.until("conversation.item.created"))["item"]["id"] == "msg_001"
        await client.send(
            {
                "type": "response.create",
                "response": {
                    "modalities": ["text"],
                    "instructions": "Please assist the user.",
                    "voice": "alloy",
                    "output_audio_format": "pcm16",
                    "tools": [],
                    "tool_choice": "auto",
                    "temperature": 0.7,
                    "max_output_tokens": 150,
                },
            }
        )
        assert (await client.until("response.text.done"))["text"] == "You wrote: Hello"
        await client.until("response.done")
        sound = base64.b64encode(encode(short_pcm, "g711_ulaw")).decode()
        await client.send(
            {
                "type": "conversation.item.create",
                "item": {**message, "id": "msg_002", "content": [{"type": "audio", "audio": sound}]},
            }
        )
        await client.send({"type": "response.create"})
        await client.until("response.done", number=2)
        await client.send(
            {"type": "conversation.item.truncate", "item_id": "msg_none", "content_index": 0, "audio_end_ms": 1500}
        )
        assert (await client.until("error"))["error"]["param"] == "item_id"
        await client.send({"type": "conversation.item.delete", "item_id": "msg_001"})
        assert (await client.until("conversation.item.deleted"))["item_id"] == "msg_001"
        await _append(client, encode(short_pcm, "g711_ulaw"))
        await client.send({"type": "input_audio_buffer.commit"})
        await client.until("input_audio_buffer.committed")
        await client.send({"type": "input_audio_buffer.clear"})
        await client.until("input_audio_buffer.cleared")
    assert "response.audio.delta" in client.types
    assert _complaints(client.events) == []


async def test_transcript_content_is_taken(daemon: Daemon) -> None:
    """The beta reference's third type of content, ``transcript``, is a message as well."""
    async with open_socket(daemon.url, "model=gpt-4o-realtime-preview", additional_headers=_BETA_HEADER) as client:
        content = [{"type": "transcript", "transcript": "What I said."}]
        item = {"type": "message", "role": "user", "content": content}
        await client.send({"type": "conversation.item.create", "item": item})
        await client.wait(lambda: bool(client.of("conversation.item.created", "error")), "answer")
    assert client.of("error") == []


async def test_from_key_to_call(serve_with: ServeWith, short_pcm: bytes) -> None:
    """``GET /session``, its key for one offer and no more; a turn in the beta dialect without sound on the channel."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,), page_keys=True) as daemon:
        reply = await request("GET", f"{daemon.url}session?model=gpt-4o-realtime-preview", headers={"Origin": _PAGE})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, _PAGE)
        headers = {
            **_SDP,
            **_BETA_HEADER,
            "Authorization": f"Bearer {reply.json['client_secret']['value']}",
            "Origin": _PAGE,
        }
        path = "v1/realtime?model=gpt-4o-realtime-preview"
        async with RealPeer(daemon.url, path=path, headers=headers) as peer:
            assert peer.reply.headers["content-type"].partition(";")[0] == "application/sdp"
            assert "Location" in peer.reply.headers["access-control-expose-headers"].split(", ")
            again = await request("POST", daemon.url + path, headers=headers, body=peer.offer)
            assert (again.status, again.json["error"]["code"]) == (401, "invalid_api_key")
            assert again.headers["access-control-allow-origin"] == _PAGE
            await peer.speak(short_pcm)
            await peer.until("output_audio_buffer.started")
            await peer.until("response.done")
            peer.send({"type": "output_audio_buffer.clear"})
            await peer.until("output_audio_buffer.cleared")
            cut = await peer.until("conversation.item.truncated")
            peer.send({"type": "input_audio_buffer.append", "audio": "AAAA", "event_id": "mine"})
            assert (await peer.until("error"))["error"]["event_id"] == "mine"
        assert [call.info.dialect for call in daemon.registry.sessions] in ([], [Dialect.BETA])
    told = [kind for kind in peer.types if not kind.startswith("output_audio_buffer.")]
    assert without_repeats(told[: told.index("response.done") + 1]) == _ON_THE_CHANNEL
    assert cut["item_id"] == peer.of("conversation.item.created")[1]["item"]["id"]
    assert _complaints(peer.events) == []


async def test_token_server_is_off_by_default(daemon: Daemon) -> None:
    """Unless pages are to get keys there is no ``/session``."""
    assert (await request("GET", f"{daemon.url}session")).status == 404


async def test_token_server_knows_its_pages(serve_with: ServeWith) -> None:
    """A page of another origin, and whoever names none, gets 403; settings that do not fit, the reference's 500."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,), page_keys=True) as daemon:
        url = f"{daemon.url}session"
        for headers in ({}, {"Origin": "https://elsewhere.example"}):
            assert (await request("GET", url, headers=headers)).status == 403
        chosen = await request("GET", f"{url}?model=gpt-4o-mini&voice=verse", headers={"Origin": _PAGE})
        assert (chosen.json["model"], chosen.json["voice"]) == ("gpt-4o-mini", "verse")


async def test_metadata_from_the_key_to_the_list_of_calls(serve_with: ServeWith) -> None:
    """What a token server says of a client stands in its session and in the list, until the client says otherwise."""
    authorized = {"Authorization": f"Bearer {_KEY}"}
    async with serve_with(api_key=(_KEY,)) as daemon:
        mine = {"client_id": "c1", "session_type": "support"}
        headers = {**authorized, "Content-Type": "application/json"}
        body = json.dumps({"model": "gpt-4o-realtime-preview", "metadata": mine}).encode()
        minted = await request("POST", f"{daemon.url}v1/realtime/sessions", headers=headers, body=body)
        assert minted.json["metadata"] == mine
        key = {"Authorization": f"Bearer {minted.json['client_secret']['value']}"}
        async with open_socket(daemon.url, "", additional_headers=key) as client:
            created = (await client.until("session.created"))["session"]
            assert (created["metadata"], created["status"]) == (mine, "active")
            await client.send({"type": "session.update", "session": {"metadata": {"client_id": "c2"}}})
            assert (await client.until("session.updated"))["session"]["metadata"] == {"client_id": "c2"}
            listed = await request("GET", f"{daemon.url}v1/calls", headers=authorized)
        [call] = listed.json["data"]
        assert (call["metadata"], call["status"]) == ({"client_id": "c2"}, "active")
    assert _complaints(client.events) == []


async def test_a_response_tells_its_own_temperature(daemon: Daemon) -> None:
    """The one that it was asked for; what was refused is not the next one's, and the session keeps its own."""
    async with open_socket(daemon.url, "model=gpt-4o-realtime-preview", additional_headers=_BETA_HEADER) as client:
        own = {"type": "response.create", "response": {"modalities": ["text"], "temperature": 1.5}}
        await client.send(own)
        await client.send({**own, "response": {"temperature": 0.3}})
        assert (await client.until("error"))["error"]["code"] == "conversation_already_has_active_response"
        await client.until("response.done")
        await client.send({"type": "response.create", "response": {"modalities": ["text"]}})
        await client.until("response.done", number=2)
        for kind in ("response.created", "response.done"):
            assert [event["response"]["temperature"] for event in client.of(kind)] == [1.5, 0.8]
    assert _complaints(client.events) == []
