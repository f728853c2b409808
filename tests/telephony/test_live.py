"""A telephone call that a Live service answers: real speech goes there, and what the model says comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from bridge.config.answering import NamedUpstream
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.end_to_end.web import open_socket
from tests.telephony.calling import calling, dialling, session_of
from tests.telephony.rows import SETTINGS
from tests.upstream.live_service import LiveService

pytestmark = pytest.mark.slow


def _recorded(folder: Path) -> list[dict[str, Any]]:
    """The events of the one recording in there."""
    (events,) = folder.glob("*.jsonl")
    return [json.loads(line)["event"] for line in events.read_text().splitlines()]


@pytest.mark.parametrize(("carrier", "is_webrtc"), [("twilio", False), ("vonage", False), ("twilio", True)])
async def test_a_telephone_call_on_a_live_service(
    serve_with: ServeWith, carrier: str, is_webrtc: bool, short_pcm: bytes, tmp_path: Path
) -> None:
    """The model hears the caller's words and is heard; listeners and the recording have both, and turns with words."""
    async with LiveService.serving() as service:
        theirs = NamedUpstream(kind="live", url=service.url if is_webrtc else service.socket_url, key="sk-theirs")
        settings = {**SETTINGS, "record_dir": str(tmp_path), "record_calls": True}
        async with (
            serve_with(**settings, upstream="theirs", upstreams={"theirs": theirs}) as daemon,
            calling(dialling(daemon, carrier)) as caller,
        ):
            session = await session_of(daemon, caller)
            listening = open_socket(daemon.url, f"call_id={session.info.id}&audio=pcm16")
            async with listening as listener:
                caller.say(short_pcm)
                await listener.until("input_audio_buffer.speech_started")
                await listener.until("response.done")
                await caller.hear_answer()
                await listener.until("conversation.item.input_audio_transcription.completed")
                stats = to_builtins(session.stats())
                heard = outbound_sound(listener.events)
            model = await service.model(1)
            assert caller.likeness(short_pcm[: 48 * 2200]) > PLAYED_LIKENESS
            assert caller.phone.carrier.complaints == []
        assert model.session["model"] == "gpt-live-1"
        assert model.is_closed
        assert stretched_likeness(samples_of(bytes(model.heard)), samples_of(short_pcm)) > PLAYED_LIKENESS
        assert stretched_likeness(samples_of(heard), samples_of(short_pcm[: 48 * 2200])) > PLAYED_LIKENESS
        assert stats["upstream"] == {**stats["upstream"], "name": "theirs", "lines": 1, "lost": 0, "answers": 1}
        told = _recorded(tmp_path)
        kinds = [event["type"] for event in told]
        assert "output_audio_buffer.started" in kinds  # the ledger follows what the telephone plays
        (words,) = [e for e in told if e["type"] == "conversation.item.input_audio_transcription.completed"]
        assert words["transcript"] == "words words"
