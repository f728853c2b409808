"""Which mind the engine has, and which ears and voice: chosen from the settings, ready for use."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from bridge.config import EngineSettings
from bridge.engine.assistant import Assistant
from bridge.engine.llm import ChatServer
from bridge.engine.local import Local
from bridge.engine.mind import Mind
from bridge.engine.parrot import Parrot
from bridge.engine.rules import Surroundings
from bridge.engine.thinker import Thinker

__all__ = ["new_mind_factory"]


async def new_mind_factory(
    settings: EngineSettings, local: Local | None, around: Surroundings, stack: AsyncExitStack
) -> Callable[[], Mind]:
    """What makes a conversation's mind. ``local`` is None without local models; ``stack`` owns what is opened."""
    if settings.engine_llm_url is not None:
        server = await stack.enter_async_context(
            ChatServer(
                settings.engine_llm_url,
                key=settings.engine_llm_key,
                model=settings.engine_llm_model,
                temperature=settings.engine_llm_temperature,
                timeout_s=settings.engine_timeout_s,
            )
        )
        return lambda: Thinker(server, ears=local, voice=local)
    if local is None:
        return Parrot
    return lambda: Assistant(local, around)
