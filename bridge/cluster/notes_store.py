"""The notes with which each running call could go on at another node, and how a node takes a call over.

Theory of operation. A call's notes stand in one hash in Redis, with the node that has the call and an epoch. The owner
writes them some hundredths of a second after something was said. It also writes them at times in between, so that they
do not expire. Whoever finds that the owner is dead takes the call over by one script, which raises the epoch if it is
still the one that was seen: so only one node wins. An owner that wakes up late writes with an epoch that is over. It is
told so, and ends its side of the call.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from bridge.calls.notes import CallNotes
from bridge.calls.registry import Registry
from bridge.cluster.carriers import CarrierIds
from bridge.cluster.ownership import Owner
from bridge.cluster.store import Command, Script, SharedStore
from bridge.log import get_logger
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallClosed, CallOpened
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import ListenerStats

__all__ = ["NotesStore"]

_log = get_logger("cluster")

_LIVES_MS = 120_000  # since the last write: longer than it takes to miss a node and to give up a caller
_RENEWALS = 30  # beats of the node, of about a second, until notes that did not change are written again
_MAX_ATTEMPTS = 1000
_SERVICE_RESTART = 1012
_MOVING = ("server_draining", "server_stopped")
"""The reasons with which a call ends here, but may go on at another node."""
_NOTED = (
    server.SessionCreated,
    server.SessionUpdated,
    server.ConversationItemAdded,
    server.ConversationItemDone,
    server.ConversationItemDeleted,
    server.ConversationItemTruncated,
    server.OutputItemDone,
    server.InputAudioTranscriptionCompleted,
    server.ResponseCreated,
    server.ResponseDone,
)

# ARGV: node, epoch, notes, for how long, the number of the notes. With a later epoch, or the same of another node,
# somebody else has the call. Of the notes of one epoch the highest number is the newest, in whatever order they come.
_WRITE = Script("""
local held = redis.call('HMGET', KEYS[1], 'epoch', 'node', 'number')
if held[1] and (tonumber(held[1]) > tonumber(ARGV[2]) or (held[1] == ARGV[2] and held[2] ~= ARGV[1])) then return 0 end
if held[1] == ARGV[2] and held[3] and tonumber(held[3]) > tonumber(ARGV[5]) then return 1 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'node', ARGV[1], 'notes', ARGV[3], 'number', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")
_DROP = Script("""
if redis.call('HGET', KEYS[1], 'node') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")
_RELEASE = Script("""
if redis.call('HGET', KEYS[1], 'node') == ARGV[1] then return redis.call('HSET', KEYS[1], 'node', '') end
return 0
""")
_LOOK = Script("return redis.call('HMGET', KEYS[1], 'epoch', 'node')")
# ARGV: node, the epoch and the node that were seen, for how long, the attempt. An attempt may come twice, if its answer
# was lost. It returns the new epoch and the notes.
_TAKE_OVER = Script("""
local held = redis.call('HMGET', KEYS[1], 'epoch', 'node', 'notes', 'attempt')
if not held[1] then return false end
if held[2] == ARGV[1] and held[4] == ARGV[5] then return {held[1], held[3]} end
if held[1] ~= ARGV[2] or held[2] ~= ARGV[3] then return false end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'attempt', ARGV[5], 'number', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {epoch, held[3]}
""")

_decoder = msgspec.json.Decoder(CallNotes)


class NotesStore:
    """The notes of the calls of ``registry``, in Redis. It subscribes to the events of all of them."""

    def __init__(self, store: SharedStore, node_id: str, registry: Registry) -> None:
        self._store = store
        self._node_id = node_id
        self._registry = registry
        self.carrier_ids = CarrierIds(store, _LIVES_MS)
        """What the carriers' ids of telephone calls stand for."""
        self._epochs: dict[str, int] = {}
        self._last_words: dict[str, Callable[[], CallNotes]] = {}
        self._leaving: set[str] = set()
        """The calls that are over here, although Redis does not know that yet."""
        self._numbers = itertools.count(1)
        self._beats = 0
        self._attempts: dict[str, str] = {}
        """The take-overs that Redis may have carried out, although it has not said so, by call."""
        store.on_back.append(self.write_all)

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Follows a call that has begun here, and ends the notes of a call that is over."""
        if isinstance(event, CallOpened):
            call_id = event.call.id
            self._epochs.setdefault(call_id, 1)
            session = self._registry.find(call_id)
            session.audience.subscribe(_Follower(partial(self.write, call_id)))
            notes = self._registry.notes(call_id)
            self._last_words[call_id] = partial(CallNotes.of, session, None if notes is None else notes.idle_timeout_s)
            self.write(call_id)
        elif isinstance(event, CallClosed):
            last_words, epoch = self._last_words.pop(event.call_id), self._epochs.pop(event.call_id, None)
            if epoch is not None:
                self._end(event.call_id, epoch, last_words() if event.reason in _MOVING else None)

    def _end(self, call_id: str, epoch: int, notes: CallNotes | None) -> None:
        """Writes that the call is over here. It may go on elsewhere with ``notes``, which have all that was said."""
        place = self._place(call_id)
        commands = [_DROP.on(place, self._node_id)]
        if notes is not None:
            commands = [self.write_command(call_id, epoch, notes), _RELEASE.on(place, self._node_id)]
        commands = [*self.carrier_ids.forget(call_id, is_over=notes is None), *commands]
        self._leaving.add(call_id)
        self._store.soon(("call", call_id), lambda: commands, lambda answer: self._leaving.discard(call_id))

    def write_command(self, call_id: str, epoch: int, notes: CallNotes) -> Command:
        """Returns the command that writes ``notes``. Whatever comes late does not follow what is newer."""
        text, number = msgspec.json.encode(notes), next(self._numbers)
        return _WRITE.on(self._place(call_id), self._node_id, epoch, text, _LIVES_MS, number)

    def beat(self) -> None:
        """Renews the notes at times. It is called each time the node has said that it lives."""
        self._beats += 1
        if self._beats % _RENEWALS == 0:
            self.write_all()

    def write_all(self) -> None:
        """Writes the notes of all calls: some may have changed hands, or Redis may have lost what it had."""
        for call_id in self._epochs:
            self.write(call_id)

    def write(self, call_id: str) -> None:
        """Writes the notes of a call that has changed."""
        self._store.soon(("call", call_id), partial(self._commands, call_id), partial(self._answered, call_id))

    def _commands(self, call_id: str) -> Iterator[Command]:
        notes, epoch = self._registry.notes(call_id), self._epochs.get(call_id)
        if notes is not None and epoch is not None:
            yield from self.carrier_ids.commands(notes)
            yield self.write_command(call_id, epoch, notes)

    def _answered(self, call_id: str, answer: Any) -> None:
        """Ends the call here, without ending its notes, if another node has the call now."""
        if int(answer) or not self._registry.has(call_id):
            return
        _log.warning("cluster.call_lost", call_id=call_id)
        self._epochs.pop(call_id, None)
        self._registry.find(call_id).close("taken_over", code=_SERVICE_RESTART)

    async def owner(self, call_id: str) -> Owner | None:
        """Returns the owner of the call; None if nobody has noted any of it. Raises ``CannotCheck``.

        If the call has just ended here, Redis is told of that first.
        """
        if call_id in self._leaving:
            await self._store.settle()
        epoch, node = await self._store.ask(_LOOK, self._place(call_id))
        return None if epoch is None else Owner(node.decode(), int(epoch))

    async def take_over(self, call_id: str, seen: Owner) -> CallNotes | None:
        """Makes the call this node's, and returns its notes; None if another node was first.

        Raises ``CannotCheck``. Redis may have made the call this node's even then: ``is_taking`` says so, and the next
        try finds out.
        """
        place, attempt = self._place(call_id), self._attempts.get(call_id) or new_id("")
        self._attempts[call_id] = attempt
        if len(self._attempts) > _MAX_ATTEMPTS:
            del self._attempts[next(iter(self._attempts))]
        found = await self._store.ask(_TAKE_OVER, place, self._node_id, seen.epoch, seen.node_id, _LIVES_MS, attempt)
        self._attempts.pop(call_id, None)  # so that a call which has ended here is not begun again
        if not found:
            return None
        epoch, written = found
        notes = _decoder.decode(written)
        self._epochs[call_id] = int(epoch)
        _log.info("cluster.call_taken_over", call_id=call_id, node=seen.node_id, items=len(notes.conversation))
        return notes

    def is_taking(self, call_id: str) -> bool:
        """Whether this node has tried to take the call over, and does not know yet whether it has it."""
        return call_id in self._attempts

    def _place(self, call_id: str) -> str:
        return self._store.name("call", f"{{{call_id}}}")


class _Follower:
    """Follows one call, and calls ``on_change`` if its notes have changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Handles an event of the call; see ``Consumer``."""
        if isinstance(event, _NOTED):
            self._on_change()

    def sound(self, track: str, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Does nothing, because this consumer asks for no sound."""

    def ended(self, error: Exception | None) -> None:
        """Does nothing, because followers of all calls are told when a call closes."""

    def listed(self) -> ListenerStats | None:
        """Returns None, because this is no listener."""
        return None
