"""The stock ``openai`` package: ``realtime.translations.connect`` and ``client_secrets`` of translations."""

import asyncio
import base64
from typing import Any

import openai
import pytest
from openai.types.realtime import RealtimeTranslationServerEvent
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.web import request
from tests.machine import scaled
from tests.sdk.stock import Judge, Judged, listening, stock_client, without_repeats
from tests.translations.conftest import Relaying
from tests.translations.service import MODEL, TranslationService

pytestmark = pytest.mark.anyio

_PIECE_BYTES = 9600
_LIMIT_S = scaled(10.0)
TRANSLATION = Judge(RealtimeTranslationServerEvent)


async def _speak(connection: Any, pcm: bytes) -> None:
    for at in range(0, len(pcm), _PIECE_BYTES):
        piece = base64.b64encode(pcm[at : at + _PIECE_BYTES]).decode()
        await connection.session.input_audio_buffer.append(audio=piece)


def _sound(log: Judged) -> bytes:
    return b"".join(base64.b64decode(event["delta"]) for event in log.of("session.output_audio.delta"))


def _words(log: Judged, side: str) -> str:
    return "".join(event["delta"] for event in log.of(f"session.{side}_transcript.delta"))


async def test_a_translation_from_beginning_to_end(
    relaying: Relaying, service: TranslationService, short_pcm: bytes
) -> None:
    """What is said comes back whole, with the words of both languages, and ``session.closed`` is the last event."""
    async with relaying() as daemon, stock_client(daemon.url) as sdk:
        async with sdk.realtime.translations.connect(model=MODEL) as connection:
            async with listening(connection, TRANSLATION) as log:
                audio: Any = {
                    "input": {"transcription": {"model": "gpt-realtime-whisper"}},
                    "output": {"language": "de"},
                }
                await connection.session.update(session={"audio": audio})
                updated = await log.until("session.updated")
                await _speak(connection, short_pcm)
                await connection.session.close()
                await log.until("session.closed")
    created = log.events[0]["session"]
    assert (created["type"], created["model"]) == ("translation", MODEL)
    assert created["id"].startswith("sess_")
    assert created["id"] != "sess_theirs"
    assert updated["session"]["audio"]["output"]["language"] == "de"
    assert updated["session"]["audio"]["input"]["transcription"] == {"model": "gpt-realtime-whisper"}
    assert log.of("error") == []
    assert _sound(log) == short_pcm
    assert _words(log, "output") == "de1 de2 de3 (end)"
    assert _words(log, "input") == "word1 word2 word3 "
    assert log.types[-1] == "session.closed"
    deltas = log.of("session.output_audio.delta")
    assert [event["elapsed_ms"] for event in deltas] == [200 * number for number in range(len(deltas))]
    assert {(event["sample_rate"], event["channels"], event["format"]) for event in deltas} == {(24_000, 1, "pcm16")}
    [translation] = service.translations
    assert bytes(translation.heard) == short_pcm
    assert (translation.was_closed, translation.authorization) == (True, "Bearer sk-theirs")
    assert [event["type"] for event in translation.events] == ["session.update", "session.close"]
    assert set(without_repeats(log.types)) == {
        "session.created", "session.updated", "session.output_audio.delta", "session.output_transcript.delta",
        "session.input_transcript.delta", "session.closed",
    }  # fmt: skip


async def test_what_the_service_refuses_is_told_to_its_asker(relaying: Relaying, service: TranslationService) -> None:
    """Errors are in Realtime's form with the client's own id, and the translation goes on."""
    async with relaying() as daemon, stock_client(daemon.url) as sdk:
        async with sdk.realtime.translations.connect(model=MODEL) as connection:
            async with listening(connection, TRANSLATION) as log:
                wrong: Any = {"type": "session.update", "event_id": "mine_1", "session": {"voice": "marin"}}
                await connection.send(wrong)
                refused = (await log.until("error"))["error"]
                assert (refused["code"], refused["param"], refused["event_id"]) == (
                    "unknown_parameter", "session.voice", "mine_1"
                )  # fmt: skip
                unknown: Any = {"type": "session.sing", "event_id": "mine_2"}
                await connection.send(unknown)
                assert (await log.until("error", number=2))["error"]["event_id"] == "mine_2"
                await _speak(connection, bytes(48_000))
                await connection.session.close()
                await log.until("session.closed")
    assert len(service.translations) == 1


async def test_what_is_no_event_of_translations_is_refused_here(bridge: Daemon) -> None:
    """Events of other sessions, sound that is none, and text that is none: each is named, and never ends the call."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.translations.connect(model=MODEL) as connection:
        async with listening(connection, TRANSLATION) as log:
            events: list[Any] = [
                {"type": "response.create", "event_id": "mine_1"},
                {"type": "input_audio_buffer.append", "event_id": "mine_2", "audio": ""},
                {"type": "session.input_audio_buffer.append", "event_id": "mine_3", "audio": "AAA"},
                {"type": "session.input_audio_buffer.append", "event_id": "mine_4"},
                {"type": "session.input_audio_buffer.append", "event_id": "mine_5", "audio": 5},
                {"type": 5, "event_id": "mine_6"},
            ]
            for event in events:
                await connection.send(event)
            await log.until("error", number=len(events))
            errors = [event["error"] for event in log.of("error")]
            assert [error["event_id"] for error in errors] == [event["event_id"] for event in events]
            assert [error["param"] for error in errors] == ["type", "type", "audio", "audio", "audio", "type"]
            assert "response.create" in errors[0]["message"]
            await connection.session.close()
            await log.until("session.closed")


async def test_a_minted_key_is_for_translations_alone(relaying: Relaying, service: TranslationService) -> None:
    """It stands for the whole translation; other sessions refuse it, and translations refuse other sessions' keys."""
    async with relaying(api_key=("sk-test",)) as daemon, stock_client(daemon.url) as sdk:
        audio: Any = {"output": {"language": "fr"}}
        secret = await sdk.realtime.translations.client_secrets.create(
            session={"model": MODEL, "audio": audio}, expires_after={"anchor": "created_at", "seconds": 60}
        )
        assert secret.value.startswith("ek_")
        assert (secret.session.model, secret.session.type) == (MODEL, "translation")
        assert secret.session.audio.output is not None
        assert secret.session.audio.output.language == "fr"
        async with stock_client(daemon.url, api_key=secret.value) as holder:
            async with holder.realtime.translations.connect(model="another-one") as connection:
                async with listening(connection, TRANSLATION) as log:
                    assert log.events[0]["session"]["audio"]["output"]["language"] == "fr"
                    await _speak(connection, bytes(24_000))
                    await connection.session.close()
                    await log.until("session.closed")
            with pytest.raises(InvalidStatus, match="403"):
                async with holder.realtime.connect(model="gpt-realtime"):
                    pass
    assert service.translations[0].model == MODEL


async def test_a_key_of_another_session_does_not_translate(bridge: Daemon) -> None:
    """Neither over WebSocket nor by an offer; the answer says why."""
    async with stock_client(bridge.url) as sdk:
        secret = await sdk.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-realtime"})
        async with stock_client(bridge.url, api_key=secret.value) as holder:
            with pytest.raises(InvalidStatus, match="403"):
                async with holder.realtime.translations.connect(model=MODEL):
                    pass
        headers = {"Authorization": f"Bearer {secret.value}", "Content-Type": "application/sdp"}
        reply = await request("POST", f"{bridge.url}v1/realtime/translations/calls", headers=headers, body="v=0")
        assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "session"),
        ({"session": {}}, "session.model"),
        ({"session": {"model": MODEL, "type": "realtime"}}, "session.type"),
        ({"session": {"model": MODEL, "audio": {"output": {"language": 5}}}}, "session.audio.output.language"),
        ({"session": {"model": MODEL}, "expires_after": {"seconds": 5}}, "expires_after.seconds"),
    ],
)
async def test_a_request_for_a_key_that_is_wrong(bridge: Daemon, body: Any, param: str) -> None:
    """The field is named."""
    async with stock_client(bridge.url) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.post("/realtime/translations/client_secrets", body=body, cast_to=object)
    assert refused.value.param == param


async def test_without_a_service_nobody_translates(daemon: Daemon) -> None:
    """The embedded engine says so at once: over WebSocket, by an offer, and to whoever asks for a key."""
    async with stock_client(daemon.url) as sdk:
        with pytest.raises(InvalidStatus, match="404"):
            async with sdk.realtime.translations.connect(model=MODEL):
                pass
        with pytest.raises(openai.NotFoundError, match="No upstream here translates"):
            await sdk.realtime.translations.client_secrets.create(session={"model": MODEL})


async def test_a_client_that_leaves_without_a_word(bridge: Daemon, service: TranslationService) -> None:
    """The service is told that the translation is over, so that it stops, and bills no more."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.translations.connect(model=MODEL) as connection:
        async with listening(connection, TRANSLATION):
            await _speak(connection, bytes(2 * 48_000))
            translation = await service.translation()
            await translation.until_heard(2.0)
    async with asyncio.timeout(_LIMIT_S):
        await translation.ended.wait()
    assert translation.was_closed
