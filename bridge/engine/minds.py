"""Which mind the engine has, and which ears and voice: chosen from the settings, ready for use."""

import functools
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

from bridge.config import EngineSettings
from bridge.engine.llm import ChatServer
from bridge.engine.llm_responder import LlmResponder
from bridge.engine.local import Local, missing
from bridge.engine.local_llm import LocalLlm
from bridge.engine.mind import Ears, Mind, Speaker
from bridge.engine.parrot import Parrot
from bridge.engine.realtime_hearing import RealtimeHearing
from bridge.engine.rule_responder import RuleResponder
from bridge.engine.rules import BridgeStatus
from bridge.engine.speech_server import HearingServer, VoiceServer
from bridge.errors import ConfigError

__all__ = ["EngineKind", "engine_kind", "new_ears", "new_mind_factory", "new_voice"]


class EngineKind(StrEnum):
    """What a daemon's engine hears and speaks with."""

    LOCAL = "local"
    """Models that are loaded here."""
    PARROT = "parrot"
    """Nothing: it repeats."""
    REMOTE = "remote"
    """Servers alone."""
    UNUSED = "unused"
    """Nobody asks it."""


def engine_kind(stacks: Sequence[EngineSettings]) -> EngineKind:
    """Returns the kind that serves all ``stacks``: the settings of each engine that answers calls.

    Raises ``ConfigError`` if models are wanted that are not installed.
    """
    if not stacks:
        return EngineKind.UNUSED
    if all(each.engine_stt_url is not None and each.engine_tts_url is not None for each in stacks):
        return EngineKind.REMOTE
    wanted = stacks[0].engine
    lacking = [] if wanted == "parrot" else missing()
    if lacking and wanted == "local":
        raise ConfigError(f"engine: local needs {', '.join(lacking)}: pip install '.[local]'", param="engine")
    return EngineKind.PARROT if lacking or wanted == "parrot" else EngineKind.LOCAL


async def new_mind_factory(
    settings: EngineSettings, local: Local | None, bridge: BridgeStatus, stack: AsyncExitStack
) -> Callable[[], Mind]:
    """Makes what makes a conversation's mind. ``local`` is None without local models; ``stack`` owns what is opened."""
    ears: Ears | None = await new_ears(settings, stack, timeout_s=settings.engine_timeout_s) or local
    voice: Speaker | None = await new_voice(settings, stack, timeout_s=settings.engine_timeout_s) or local
    url, key = settings.engine_llm_url, settings.engine_llm_key
    if settings.engine_llm_path is not None:
        loaded = await stack.enter_async_context(LocalLlm(settings.engine_llm_path))
        url, key = loaded.url, loaded.key
    if url is not None:
        server = ChatServer(
            url,
            key=key,
            model=settings.engine_llm_model,
            temperature=settings.engine_llm_temperature,
            timeout_s=settings.engine_timeout_s,
        )
        await stack.enter_async_context(server)
        return lambda: LlmResponder(server, ears=ears, voice=voice)
    if ears is None or voice is None:
        return Parrot
    return functools.partial(
        RuleResponder, ears, voice, bridge, seed=settings.engine_seed if local is None else local.seed
    )


async def new_ears(
    settings: EngineSettings, stack: AsyncExitStack, *, timeout_s: float, tries: int = 3
) -> "HearingServer | RealtimeHearing | None":
    """Makes the ears behind ``engine_stt_url``; None if it is unset. ``stack`` owns them."""
    url, key, model = settings.engine_stt_url, settings.engine_stt_key, settings.engine_stt_model
    if url is None:
        return None
    kind = RealtimeHearing if url.startswith(("ws:", "wss:")) else HearingServer
    return await stack.enter_async_context(kind(url, key=key, model=model, timeout_s=timeout_s, tries=tries))


async def new_voice(
    settings: EngineSettings, stack: AsyncExitStack, *, timeout_s: float, tries: int = 3
) -> VoiceServer | None:
    """Makes the voice behind ``engine_tts_url``; None if it is unset. ``stack`` owns it."""
    if settings.engine_tts_url is None:
        return None
    return await stack.enter_async_context(
        VoiceServer(
            settings.engine_tts_url,
            key=settings.engine_tts_key,
            model=settings.engine_tts_model,
            voice=settings.engine_tts_voice,
            timeout_s=timeout_s,
            tries=tries,
        )
    )
