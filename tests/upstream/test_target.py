"""Where an upstream is and what is peculiar about it."""

from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ConfigError
from bridge.upstream.target import Profile, ProfileTranslator, Target, load_profile, profile_names
from bridge.wire.audio import G711_ULAW, PCM16, pcm16_at
from bridge.wire.sessions import PcmFormat, PcmuFormat

_GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "upstreams.md"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://a.example:8443/v1/realtime", "wss://a.example:8443/v1/realtime"),
        ("wss://me:hush@a.example/v1?key=hush#hush", "wss://a.example/v1"),
        ("agent", "agent"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    """Neither its user nor its query, which may hold secrets."""
    assert Target("a", url).shown_url == shown


@pytest.mark.parametrize(
    ("url", "profile", "address"),
    [
        ("wss://a.example/v1/realtime", "openai", "wss://a.example/v1/realtime?model=gpt"),
        ("https://a.example/v1/realtime/calls", "openai", "https://a.example/v1/realtime/calls?model=gpt"),
        ("wss://a.example/v1/realtime?model=own&x=1", "openai", "wss://a.example/v1/realtime?model=own&x=1"),
        (
            "wss://r.example/openai/realtime",
            "azure-preview",
            "wss://r.example/openai/realtime?api-version=2025-04-01-preview&deployment=gpt",
        ),
        (
            "wss://r.example/openai/realtime?api-version=2026-10-01-preview",
            "azure-preview",
            "wss://r.example/openai/realtime?api-version=2026-10-01-preview&deployment=gpt",
        ),
        (
            "wss://r.example/openai/realtime?deployment=mine&api-version=",
            "azure-preview",
            "wss://r.example/openai/realtime?deployment=mine&api-version=",
        ),
        (
            "wss://a.example/v1/realtime?tag=a&tag=b%20c&MODEL=x#part",
            "openai",
            "wss://a.example/v1/realtime?tag=a&tag=b%20c&MODEL=x&model=gpt#part",
        ),
    ],
)
def test_the_address_names_the_model(url: str, profile: str, address: str) -> None:
    """In the server's own parameter, unless the configured URL names one; what the URL says stands as it is."""
    assert Target("t", url, profile=load_profile(profile)).address("gpt") == address
    assert "gpt" not in Target("t", "wss://a.example/", model="llama").address("gpt")


@pytest.mark.parametrize(
    ("url", "profile", "address"),
    [
        ("wss://a.example/v1/realtime", "openai", "wss://a.example/v1/realtime?intent=transcription"),
        ("wss://a.example/v1/realtime?intent=dictation", "openai", "wss://a.example/v1/realtime?intent=dictation"),
        (
            "wss://r.example/openai/realtime",
            "azure-preview",
            "wss://r.example/openai/realtime?api-version=2025-04-01-preview&intent=transcription",
        ),
    ],
)
def test_the_address_of_a_transcription(url: str, profile: str, address: str) -> None:
    """It says so, and names no model: the real service refuses one there."""
    target = Target("t", url, profile=load_profile(profile), model="mine")
    assert target.address("gpt", is_transcription=True) == address


def test_the_key_goes_where_the_server_looks() -> None:
    """As a bearer or as api-key, nowhere without one; and it is shown in no message."""
    assert Target("t", "wss://a", "sk-1").headers == {"Authorization": "Bearer sk-1"}
    assert Target("t", "wss://a", "sk-1", load_profile("azure")).headers == {"api-key": "sk-1"}
    assert Target("t", "wss://a").headers == {}
    assert "sk-1" not in repr(Target("t", "wss://a", "sk-1"))


def test_the_transport_is_the_urls() -> None:
    """WebSocket, WebRTC, or one of the two that are no URL."""
    given = ("ws://a", "wss://a", "http://a", "https://a", "local", "agent")
    assert [Target("t", url).transport.value for url in given] == [
        "websocket", "websocket", "webrtc", "webrtc", "local", "agent",
    ]  # fmt: skip


def test_the_formats_that_a_server_takes() -> None:
    """The session's where it takes that, else PCM at its own rate; what is asked of it is changed likewise."""
    assert Profile().input_format(PcmuFormat()) is G711_ULAW
    assert Profile().output_format(PcmFormat()) is PCM16
    qwen = load_profile("qwen")
    assert qwen.input_format(PcmuFormat()) is pcm16_at(16_000)
    assert qwen.output_format(PcmuFormat()) is PCM16
    vllm = load_profile("vllm")
    audio: dict[str, Any] = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"voice": "a"}}
    update = vllm.encode({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
    assert update["session"]["audio"] == {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}},
        "output": {"voice": "a"},
    }
    assert audio["input"]["format"] == {"type": "audio/pcmu"}


def test_what_a_server_wants_besides() -> None:
    """Fields that every update to it has until a client sets them otherwise, and events that nobody needs."""
    glm, translator = load_profile("glm"), ProfileTranslator(load_profile("glm"))

    def told(**session: Any) -> Any:
        return translator.encode({"type": "session.update", "session": session})["session"]

    assert told(instructions="sing") == {"instructions": "sing", "beta_fields": {"chat_mode": "audio"}}
    both = {"chat_mode": "video", "tts_source": "e2e"}
    assert told(beta_fields=both)["beta_fields"] == both
    assert told(instructions="dance") == {"instructions": "dance", "beta_fields": both}
    assert told(beta_fields={"chat_mode": "audio"})["beta_fields"] == {**both, "chat_mode": "audio"}
    assert translator.encode({"type": "response.create"}) == {"type": "response.create"}
    assert glm.decode({"type": "heartbeat"}) == []
    update = {"type": "session.update", "session": {"instructions": "sing"}}
    assert ProfileTranslator(load_profile("openai")).encode(update) == update


def test_every_profile_is_in_the_guide() -> None:
    """Whoever looks for a server finds its name there; a wrong name is refused with the right ones."""
    text = _GUIDE.read_text()
    assert [name for name in profile_names() if f"`{name}`" not in text] == []
    with pytest.raises(ConfigError, match="azure-preview.*got 'opneai'"):
        load_profile("opneai")
