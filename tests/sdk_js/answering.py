"""Who answers Live clients: the engine inside, or a Realtime service, reached over either transport."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from bridge.config.answering import NamedUpstream
from bridge.daemon import Daemon
from tests.settings import config_for_tests

__all__ = ["Answering", "answered_by"]

Answering = Literal["engine", "websocket", "webrtc"]


@asynccontextmanager
async def answered_by(who: Answering) -> AsyncIterator[dict[str, Any]]:
    """The settings of a daemon whose Live model this is. The Realtime service is a second daemon, which was called."""
    if who == "engine":
        yield {}
        return
    async with Daemon(config_for_tests()) as service:
        url = f"{service.url}v1/realtime"
        url = f"{url}/calls" if who == "webrtc" else url.replace("http", "ws", 1)
        theirs = NamedUpstream(url=url, models=("gpt-live-1",), model="gpt-realtime-2.1")
        yield {"upstreams": {"theirs": theirs}}
        assert service.registry.sessions == []
        assert await service.registry.ended.list()
