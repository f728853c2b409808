"""A dialled upstream with a session that records what it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.session.state import SessionState
from bridge.upstream.dialer import RetryPolicy
from bridge.upstream.resilient import ResilientUpstream
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Profile, Target
from bridge.upstream.websocket import WebSocketLine
from bridge.wire.client_events import read_client_message
from tests.engine.talk import Recorder
from tests.fakes import CONTEXT, JsonEvent
from tests.machine import scaled
from tests.upstream.service import Service

__all__ = ["POLICY", "Dialled", "dialled"]

POLICY = RetryPolicy(connect_s=scaled(2.0), stall_s=5.0, renew_s=60.0, tries=3)
_LIMIT_S = scaled(8.0)


class Dialled:
    """What a session sees of it, and does with it."""

    def __init__(self, upstream: ResilientUpstream, said: Recorder, tallies: dict[str, TargetTally]) -> None:
        self.upstream = upstream
        self.tallies = tallies
        """By the names of the targets: ``target0`` and so on."""
        self.said = said

    def send(self, name: str, **fields: Any) -> None:
        """A client event, as a GA client writes it."""
        text = json.dumps({"type": name, **fields})
        self.upstream.receive_client_event(read_client_message(text))

    def type(self, words: str, item_id: str) -> None:
        """A typed message."""
        content = [{"type": "input_text", "text": words}]
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        self.send("conversation.item.create", item=item)

    async def until(self, name: str, count: int = 1) -> dict[str, Any]:
        """The ``count``th event of this name."""
        async with asyncio.timeout(_LIMIT_S):
            return await self.said.until(name, count)

    async def until_over(self) -> Any:
        """Why there is no upstream any more."""
        async with asyncio.timeout(_LIMIT_S):
            await self.said.until_closed()
        return self.said.closed[0]


@asynccontextmanager
async def dialled(
    *services: Service | str,
    policy: RetryPolicy = POLICY,
    wanted: JsonEvent | None = None,
    profile: Profile | None = None,
    **changes: Any,
) -> AsyncIterator[Dialled]:
    """Dials the services in order; ``local`` is the engine."""
    said = Recorder()
    said.state = SessionState(said.state.config, wanted)
    targets = tuple(
        Target(f"target{number}", service if isinstance(service, str) else service.url, "sk-key", profile or Profile())
        for number, service in enumerate(services)
    )
    tallies = {target.name: TargetTally(target.name) for target in targets}
    async with asyncio.TaskGroup() as group:
        upstream = ResilientUpstream(
            targets,
            new_line=lambda target: WebSocketLine(target, "m", timeout_s=scaled(2.0)),
            new_engine=lambda: Engine(Parrot(), CONTEXT),
            spawn=group.create_task,
            policy=replace(policy, **changes),
            context=CONTEXT,
            tally=lambda target: tallies[target.name],
        )
        upstream.start(said, said.state)
        try:
            yield Dialled(upstream, said, tallies)
        finally:
            await upstream.aclose()
