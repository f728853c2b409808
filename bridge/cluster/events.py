"""Tells events of all calls to the watchers of all processes, over a stream in Redis.

Subscribers inside a process (metrics, webhooks, recordings) are told only of the process's own calls, at once and
without Redis. So each event is counted and sent once. The stream is capped: a process that was cut off longer than its
length has missed events, and so have its watchers.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.calls.events import LocalEventBus
from bridge.cluster.figures import call_of
from bridge.cluster.store import Command, SharedStore
from bridge.errors import CannotCheck
from bridge.log import get_logger
from bridge.media.contracts import Sink
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.subscription import EventConsumer
from bridge.wire.choices import Choices
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallOpened, server_event_types
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallStats

__all__ = ["RedisEventBus"]

_log = get_logger("cluster")

_STREAM_EVENTS = 10_000
_BATCH = 200
_AWAY_S = 0.5
_KINDS = {str(kind.__struct_config__.tag): kind for kind in server_event_types()}


class RedisEventBus:
    """The ``EventBus`` of a cluster. This process is ``node_id``, and has to run ``follow``."""

    def __init__(self, store: SharedStore, node_id: str, limits: Limits) -> None:
        self._store = store
        self._node_id = node_id
        self._stream = store.name("events")
        self._own = LocalEventBus(limits)
        self._all = LocalEventBus(limits)

    def apply(self, limits: Limits) -> None:
        """Sets the limits of new watchers; see ``EventBus``."""
        self._all.apply(limits)

    def publish(self, event: ServerEvent) -> None:
        """Tells an event to the subscribers of this process and to the watchers of all processes; see ``EventBus``."""
        text = msgspec.json.encode(event)
        self._store.soon(("event", new_id("")), lambda: self._commands(text))
        self._all.publish(event)
        self._own.publish(event)

    def subscribe(self, consumer: EventConsumer) -> None:
        """Tells ``consumer`` the events of this process's calls from now on; see ``EventBus``."""
        self._own.subscribe(consumer)

    def require_known(self, choices: Choices) -> None:
        """Raises ``ResumeGap`` or ``BadRequest`` if a watcher cannot go on as it wants; see ``EventBus``."""
        self._all.require_known(choices)

    def watch(self, sink: Sink, choices: Choices, running: list[CallStats]) -> Listener:
        """Makes a watcher of all calls; see ``EventBus``."""
        return self._all.watch(sink, choices, running)

    def answer(self, watcher: Listener, event: ServerEvent) -> None:
        """Tells an event to one watcher alone; see ``EventBus``."""
        self._all.answer(watcher, event)

    def leave(self, watcher: Listener) -> None:
        """Notes that the watcher's socket is gone; see ``EventBus``."""
        self._all.leave(watcher)

    def close(self, code: int, reason: str) -> None:
        """Says goodbye to all watchers; see ``EventBus``."""
        self._all.close(code, reason)

    def _commands(self, text: bytes) -> list[Command]:
        return [("XADD", self._stream, "MAXLEN", "~", _STREAM_EVENTS, "*", "node", self._node_id, "event", text)]

    async def follow(self) -> None:
        """Tells this process's watchers what happens in the others, until it is cancelled."""
        last: str | bytes | None = None
        block_ms = int(self._store.timeout_s * 400)
        while True:
            try:
                if last is None:
                    newest = await self._store.command("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
                    last = newest[0][0] if newest else "0-0"
                read = ("XREAD", "COUNT", _BATCH, "BLOCK", block_ms, "STREAMS", self._stream, last)
                found = await self._store.command(*read)
            except CannotCheck:
                await asyncio.sleep(_AWAY_S)
                continue
            for number, fields in _entries(found):
                last = number
                self._hear(fields)

    def _hear(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"node", b"").decode() == self._node_id:
            return
        try:
            event = _read(fields[b"event"])
        except (KeyError, msgspec.MsgspecError) as error:  # a newer version has sent it
            _log.warning("cluster.event_unreadable", reason=str(error))
            return
        self._all.publish(event)


def _entries(found: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yields the entries of an answer to XREAD, in either version of Redis's protocol."""
    for _, entries in found.items() if isinstance(found, dict) else found or ():
        yield from entries


def _read(text: bytes) -> ServerEvent:
    body = msgspec.json.decode(text)
    kind = _KINDS[body["type"]]
    if kind is CallOpened:
        return CallOpened(call=call_of(body["call"]))
    event: ServerEvent = msgspec.convert(body, kind)
    return event
