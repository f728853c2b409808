"""A translation service, and bridges in front of it: one, or two in a row."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import _peers_use_loopback, daemon, serve_with, short_pcm
from tests.settings import config_for_tests
from tests.translations.service import TranslationService

__all__ = ["_peers_use_loopback", "daemon", "serve_with", "short_pcm"]

Relaying = Callable[..., AbstractAsyncContextManager[Daemon]]


@pytest.fixture
async def service() -> AsyncIterator[TranslationService]:
    """The service, which wants a key."""
    async with TranslationService.serving() as serving:
        yield serving


@pytest.fixture(params=[1, 2], ids=["one bridge", "two bridges"])
def relaying(request: pytest.FixtureRequest, service: TranslationService) -> Relaying:
    """``async with relaying() as daemon``: a bridge in front of the service, perhaps behind another one."""

    @asynccontextmanager
    async def serve(**settings: Any) -> AsyncIterator[Daemon]:
        upstream: Any = {"upstream": service.url, "upstream_key": "sk-theirs", "upstream_fallback": ()}
        if request.param == 1:
            async with Daemon(config_for_tests(**{**upstream, **settings})) as serving:
                yield serving
            return
        async with Daemon(config_for_tests(**upstream)) as behind:
            through: Any = {"upstream": behind.url.replace("http", "ws", 1) + "v1/realtime", "upstream_fallback": ()}
            async with Daemon(config_for_tests(**{**through, **settings})) as serving:
                yield serving

    return serve


@pytest.fixture
async def bridge(service: TranslationService) -> AsyncIterator[Daemon]:
    """One bridge in front of the service."""
    settings: Any = {"upstream": service.url, "upstream_key": "sk-theirs", "upstream_fallback": ()}
    async with Daemon(config_for_tests(**settings)) as serving:
        yield serving
