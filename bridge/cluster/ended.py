"""Keeps the ended calls of all processes in a list in Redis, up to a length and an age."""

import time
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from bridge.calls.directory import CallRecord
from bridge.calls.ended import EndedCall, LocalEndedCalls, as_ended
from bridge.cluster.figures import read_call
from bridge.cluster.store import Command, SharedStore
from bridge.errors import CannotCheck
from bridge.wire.stats import CallResult, CallStats

__all__ = ["RedisEndedCalls"]


class _Kept(Struct, frozen=True):
    """One ended call; ``stats`` is as ``GET /v1/calls`` has it."""

    call_id: str
    key_id: str
    found_by: tuple[str, ...]
    stats: msgspec.Raw


_decoder = msgspec.json.Decoder(_Kept)


class RedisEndedCalls:
    """The ``EndedCalls`` of a cluster. This process knows its own ended calls itself, also while Redis is away."""

    def __init__(self, store: SharedStore, limit: int, max_age_s: float) -> None:
        self._store = store
        self._own = LocalEndedCalls(limit, max_age_s)
        self._place = store.name("ended")
        self.limit_to(limit, max_age_s)

    def limit_to(self, limit: int, max_age_s: float) -> None:
        """Changes how many calls are kept, and for how long; see ``EndedCalls``."""
        self._limit, self._max_age_s = limit, max_age_s
        self._own.limit_to(limit, max_age_s)

    def add_ended_call(self, record: CallRecord, stats: CallStats, result: CallResult, reason: str) -> None:
        """Keeps a call that has ended; see ``EndedCalls``."""
        self._own.add_ended_call(record, stats, result, reason)
        if not self._limit:
            return
        shown = msgspec.Raw(msgspec.json.encode(as_ended(stats, result, reason)))
        text = msgspec.json.encode(_Kept(record.call_id, record.key_id, record.found_by, shown))
        self._store.soon(("ended", record.call_id), lambda: self._commands(text))

    async def list(self) -> list[EndedCall]:
        """Returns the ended calls, those of this process alone if Redis cannot be asked; see ``EndedCalls``."""
        own = await self._own.list()
        try:
            kept = await self._store.command("LRANGE", self._place, 0, max(0, self._limit - 1))
        except CannotCheck:
            return own
        after = time.time() - self._max_age_s
        calls = {call.record.call_id: call for call in own}
        for text in kept if self._limit else ():
            read = _decoder.decode(text)
            record = CallRecord(call_id=read.call_id, key_id=read.key_id, found_by=read.found_by)
            calls.setdefault(read.call_id, EndedCall(record, read_call(read.stats)))
        known = [call for call in calls.values() if _ended_at(call) > after]
        return sorted(known, key=_ended_at, reverse=True)[: self._limit]

    def _commands(self, text: bytes) -> Iterator[Command]:
        yield "LPUSH", self._place, text
        yield "LTRIM", self._place, 0, max(0, self._limit - 1)
        yield "PEXPIRE", self._place, int(self._max_age_s * 1000)


def _ended_at(call: EndedCall) -> float:
    at = call.stats.ended_at
    return at if isinstance(at, float | int) else 0.0
