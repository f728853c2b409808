"""The npm package ``openai``: ``OpenAIRealtimeTranslationWS``, which takes HTTPS alone."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.sdk_js.node import API_KEY, Scenario, WriteSound, played_through
from tests.settings import config_for_tests
from tests.translations.service import MODEL, TranslationService

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(20, func_only=True)]

_SCRIPT = "translation.mjs"


@pytest.fixture
async def service() -> AsyncIterator[TranslationService]:
    """Translates for the daemon."""
    async with TranslationService.serving() as serving:
        yield serving


@pytest.fixture
async def translating(tls: tuple[Path, Path], service: TranslationService) -> AsyncIterator[dict[str, Any]]:
    """The inputs by which a scenario finds a daemon over TLS in front of the service, and trusts it."""
    certificate, key = map(str, tls)
    settings: Any = {"upstream": service.url, "upstream_key": "sk-theirs", "upstream_fallback": ()}
    config = config_for_tests(api_key=(API_KEY,), tls_cert=certificate, tls_key=key, **settings)
    async with Daemon(config) as daemon:
        yield {"certificate": tls[0], "url": daemon.url, "key": API_KEY, "model": MODEL}


def _typed(log: Scenario) -> list[str]:
    return [each["of"] for each in log.of("sdk.typed")]


async def test_a_translation_from_beginning_to_end(
    translating: dict[str, Any], service: TranslationService, write_sound: WriteSound, speech_pcm: bytes
) -> None:
    """Each event passes the SDK's own checks, all sound comes back, and the end is a clean one."""
    log = await played_through(_SCRIPT, "translated", sound=write_sound("pcm16"), **translating)
    assert log.refusals == []
    assert log.of("sdk.finished")
    assert _typed(log) == [kind for kind in log.types if kind.startswith("session.")]
    assert set(_typed(log)) == {
        "session.created", "session.updated", "session.output_audio.delta", "session.output_transcript.delta",
        "session.input_transcript.delta", "session.closed",
    }  # fmt: skip
    sound = b"".join(base64.b64decode(event["delta"]) for event in log.of("session.output_audio.delta"))
    assert sound.startswith(speech_pcm)
    assert bytes(service.translations[0].heard) == sound
    assert log.of("sdk.closed")[0]["code"] in (1000, 1005)


async def test_a_minted_key(translating: dict[str, Any], service: TranslationService) -> None:
    """It opens a translation as it was minted."""
    log = await played_through(_SCRIPT, "mintedKey", **translating)
    assert log.refusals == []
    assert log.of("sdk.secret")[0]["session"]["audio"]["output"] == {"language": "fr"}
    assert log.of("session.created")[0]["session"]["audio"]["output"] == {"language": "fr"}
    assert service.translations[0].was_closed


async def test_the_server_hangs_up(translating: dict[str, Any]) -> None:
    """The SDK takes it for an end in good order, because ``session.closed`` comes first."""
    log = await played_through(_SCRIPT, "hungUp", **translating)
    assert log.refusals == []
    assert log.types[-3:] == ["session.closed", "sdk.typed", "sdk.closed"]
