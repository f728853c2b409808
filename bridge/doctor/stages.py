"""Whether the servers that think, hear and speak for engines do so, and how long each takes: tried with a phrase."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

from bridge.client.sound import BYTES_PER_MS, PHRASE, is_silent, read_sound
from bridge.config import Config, EngineSettings
from bridge.doctor.findings import Examined, Finding, FindingLevel, Findings, fault, fine, warning
from bridge.engine.llm import ChatServer
from bridge.engine.minds import new_ears, new_voice
from bridge.errors import BridgeError, ConfigError
from bridge.log import get_logger

__all__ = ["stages"]

_LIMIT_S = 15.0
_SLOW_S = 2.0  # a caller who waits so long for one of three stages asks whether anybody is there
_QUESTION = "Say hello in one word."
_SPOKEN = "Hello, please count to five."
_MOST_TOKENS = 64
_MOST_VOICES = 100
_log = get_logger("doctor")

_Try = Callable[[AsyncExitStack], Awaitable[str]]


async def stages(examined: Examined) -> Findings:
    """Each server of each engine: a question to the language model, a recorded phrase to the ears, one to the voice."""
    config = examined.config
    if config is None:
        return
    tried: set[tuple[str, str]] = set()
    for name, settings in _engines(config):
        for stage, url, attempt in _tries(settings):
            if (stage, url) not in tried:
                tried.add((stage, url))
                finding = await _tried(f"{stage} of {name}", attempt)
                yield finding
                if stage == "voice" and finding.level is not FindingLevel.FAULT:
                    async for listed in _listed(f"voice of {name}", settings):
                        yield listed


def _engines(config: Config) -> Iterator[tuple[str, EngineSettings]]:
    if config.upstream.uses_local:
        yield "the engine", config.engine
    for name, given in config.upstream.cascades.items():
        yield f"upstream {name}", given.stages(config.engine)


def _tries(settings: EngineSettings) -> Iterator[tuple[str, str, _Try]]:
    if settings.engine_stt_url is not None:
        yield "ear", f"{settings.engine_stt_url} {settings.engine_stt_model}", lambda stack: _hear(settings, stack)
    if settings.engine_llm_url is not None:
        yield "mind", f"{settings.engine_llm_url} {settings.engine_llm_model}", lambda stack: _think(settings, stack)
    if settings.engine_tts_url is not None:
        yield "voice", f"{settings.engine_tts_url} {settings.engine_tts_model}", lambda stack: _speak(settings, stack)


async def _tried(what: str, attempt: _Try) -> Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_LIMIT_S), AsyncExitStack() as stack:
            says = await attempt(stack)
            took_s = time.monotonic() - began
    except TimeoutError:
        return fault(
            f"the {what} did not respond within {_LIMIT_S:g} s", "is the model loaded, and is its machine idle?"
        )
    except (BridgeError, ConfigError) as error:
        return fault(f"the {what} fails: {error.message}", "are its URL, its key and its model's name right?")
    if not says:
        return warning(f"the {what} returns an empty answer", "try its model by itself")
    said = f"the {what} {says} after {1000 * took_s:.0f} ms"
    if took_s > _SLOW_S:
        return warning(said, "callers wait this long in each turn: use a smaller model, or a server that is closer")
    return fine(said)


async def _think(settings: EngineSettings, stack: AsyncExitStack) -> str:
    assert settings.engine_llm_url is not None
    server = await stack.enter_async_context(
        ChatServer(
            settings.engine_llm_url,
            key=settings.engine_llm_key,
            model=settings.engine_llm_model,
            timeout_s=_LIMIT_S,
            tries=1,
        )
    )
    request = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _MOST_TOKENS}
    thought = server.think(request, model=settings.engine_llm_model or "default", log=_log)
    try:
        return "says its first words" if await thought.words.next() else ""
    finally:
        thought.words.close()


async def _hear(settings: EngineSettings, stack: AsyncExitStack) -> str:
    ears = await new_ears(settings, stack, timeout_s=_LIMIT_S, tries=1)
    assert ears is not None
    heard = await ears.listen(await asyncio.to_thread(read_sound, PHRASE))
    return f"understands {heard.text[:60]!r}" if heard.text else ""


async def _speak(settings: EngineSettings, stack: AsyncExitStack) -> str:
    voice = await new_voice(settings, stack, timeout_s=_LIMIT_S, tries=1)
    assert voice is not None
    sound = voice.speak_sentence(_SPOKEN, speed=1.0, voice=None, log=_log)
    try:
        pcm = await sound.next()
        return "sounds" if pcm and (not is_silent(pcm) or len(pcm) < 100 * BYTES_PER_MS) else ""
    finally:
        sound.close()


async def _listed(what: str, settings: EngineSettings) -> Findings:
    """The voices that a session may name, if the server lists them."""
    names: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT_S), AsyncExitStack() as stack:
            voice = await new_voice(settings, stack, timeout_s=_LIMIT_S, tries=1)
            assert voice is not None
            names = await voice.voices()
    wanted = settings.engine_tts_voice
    if not names:
        return
    said = f"the {what} may be one of {len(names)} that its server lists: {_shortened(names)}"
    if wanted is not None and wanted not in names:
        yield warning(f"{said}; {wanted!r} is not among them", "choose one of these voices")
    else:
        yield fine(said)


def _shortened(names: list[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:_MOST_VOICES])
    return shown if len(names) <= _MOST_VOICES else f"{shown}, …"
