"""Knows which processes there are: each says every second that it lives, and learns of the others by the same command.

A node that has said nothing for four seconds counts as dead. Redis's clock decides, so that no machine's own matters.
What a node says is signed with the cluster's secret: a record that somebody else has put into Redis is no node.
While Redis is away, the nodes that were known last are asked as before.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec import Struct

from bridge import __version__
from bridge.calls.admission import Admission
from bridge.cluster.proof import Proofs
from bridge.cluster.store import Script, SharedStore
from bridge.errors import CannotCheck
from bridge.log import get_logger
from bridge.wire.ids import new_id

__all__ = ["DEAD_AFTER_S", "NODE_ID_CHARS", "Node", "NodeState", "Nodes", "new_node_id", "node_of"]

_log = get_logger("cluster")

_BEAT_S = 1.0
DEAD_AFTER_S = 4.0
"""How long a node may be silent before it counts as dead."""

NODE_ID_CHARS = 6
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"

# ARGV: id, what it says of itself, how long that counts. It returns the time, and who lives: id, text, id, text.
_BEAT = Script("""
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[3])) .. ' ' .. ARGV[2]) end
local alive = {string.format('%.0f', now)}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local til, text = string.match(all[i + 1], '^(%d+) (.*)$')
  if tonumber(til) > now then
    alive[#alive + 1] = all[i]
    alive[#alive + 1] = text
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return alive
""")


class NodeState(StrEnum):
    """The state of a node: whether it takes new calls."""

    STARTING = "starting"
    """It has joined, and takes no calls yet."""
    SERVING = "serving"
    BUSY = "busy"
    """It has as many calls as it may have, or its event loop is late."""
    DRAINING = "draining"


class Node(Struct, frozen=True, kw_only=True):
    """A process of the cluster, as it describes itself."""

    id: str
    object: str = "bridge.node"
    url: str
    """The address at which the other nodes reach it."""
    state: NodeState
    calls: int
    max_calls: int
    version: str
    pid: int
    started_at: float
    worker: int | None = None
    """Its number among the workers of its machine; null if it is no worker."""

    @property
    def is_serving(self) -> bool:
        """Whether it takes new calls."""
        return self.state is NodeState.SERVING

    @property
    def load(self) -> float:
        """How many calls it has, as a share of those that it may have."""
        return self.calls / max(1, self.max_calls)


_decoder = msgspec.json.Decoder(Node)


def new_node_id() -> str:
    """Returns a new name for a node, which no other process has or will have."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(NODE_ID_CHARS))


def node_of(call_id: str) -> str:
    """Returns the node that the call with this id began on, if it began in a cluster."""
    return call_id.partition("_")[2][:NODE_ID_CHARS]


class Nodes:
    """This node, named ``id``, and the nodes that live beside it. ``beat`` has to run."""

    def __init__(self, store: SharedStore, node_id: str, url: str, proofs: Proofs, worker: int | None = None) -> None:
        self.id = node_id
        self.is_leaving: Callable[[str], bool] = lambda node_id: False
        """Whether a node with this name is about to stop, although it does not say so itself yet."""
        self.on_beat: list[Callable[[], None]] = []
        """What is called each time Redis has taken this node's word that it lives."""
        self.on_late: list[Callable[[], None]] = []
        """What is called before ``on_beat`` if that took so long that others may have taken this node for dead."""
        self._store = store
        self._url = url
        self._proofs = proofs
        self._worker = worker
        self._place = store.name("nodes")
        self._started_at = time.time()
        self._alive: dict[str, Node] = {}
        self._admission: Admission | None = None
        self._said_at = time.monotonic()
        self._has_news = asyncio.Event()

    def serve(self, admission: Admission) -> None:
        """Takes calls from now on, and tells the others so at once; until then this node counts as starting."""
        self._admission = admission
        self._has_news.set()

    def new_call_id(self, prefix: str) -> str:
        """Returns an id for a call that begins here. The id names this node."""
        kind, _, rest = new_id(prefix).partition("_")
        return f"{kind}_{self.id}{rest}"

    @property
    def alive(self) -> list[Node]:
        """All nodes that live, this one included."""
        return list(self._alive.values())

    def suspect(self, node_id: str) -> None:
        """Counts a node as dead until its next word, because nobody listens at its address."""
        self._alive.pop(node_id, None)

    def find(self, node_id: str) -> Node | None:
        """Returns another node that lives; None if none has this id."""
        return self._alive.get(node_id) if node_id != self.id else None

    @staticmethod
    def is_one(node_id: str) -> bool:
        """Returns whether this may be the name of a node.

        For any other id of a call, Redis need not be asked.
        """
        return len(node_id) == NODE_ID_CHARS and all(letter in _ALPHABET for letter in node_id)

    @property
    def others(self) -> list[Node]:
        """All nodes that live, except this one."""
        return [node for node in self._alive.values() if node.id != self.id]

    @property
    def least_loaded(self) -> Node | None:
        """The other node that has most room for a call; None if none has any."""
        serving = (node for node in self.others if node.is_serving and not self.is_leaving(node.id))
        return min(serving, key=lambda node: node.load, default=None)

    @property
    def itself(self) -> Node:
        """This node as it is now."""
        admission = self._admission
        state = NodeState.SERVING
        if admission is None:
            state = NodeState.STARTING
        elif admission.is_draining:
            state = NodeState.DRAINING
        elif admission.is_full or admission.lag.is_too_late:
            state = NodeState.BUSY
        return Node(
            id=self.id,
            url=self._url,
            state=state,
            calls=0 if admission is None else admission.calls,
            max_calls=0 if admission is None else admission.max_calls,
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            worker=self._worker,
        )

    async def beat(self) -> None:
        """Says again and again that this node lives, until it is cancelled."""
        while True:
            await self.say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_S):
                    await self._has_news.wait()
            self._has_news.clear()

    async def say(self) -> None:
        """Says once that this node lives, and learns which others do."""
        try:
            told = self._proofs.sign_record(msgspec.json.encode(self.itself).decode())
            asked_at_s = time.monotonic()
            now_ms, *alive = await self._store.ask(_BEAT, self._place, self.id, told, int(DEAD_AFTER_S * 1000))
        except CannotCheck:
            return
        self._store.learn_time(int(now_ms), asked_at_s)
        late_s = time.monotonic() - self._said_at
        self._said_at = time.monotonic()
        self._learn(alive)
        for tell in [*(self.on_late if late_s > DEAD_AFTER_S else ()), *self.on_beat]:
            tell()

    def _learn(self, alive: list[bytes]) -> None:
        known, self._alive = self._alive, {}
        for name, text in zip(alive[::2], alive[1::2], strict=True):
            node_id = name.decode("ascii", "replace")
            record = self._proofs.check_record(node_id, text.decode("utf-8", "replace"))
            if record is None:
                _log.warning("cluster.node_unsigned", node=node_id)
                continue
            try:
                self._alive[node_id] = _decoder.decode(record)
            except msgspec.MsgspecError as error:  # another version says something else
                _log.warning("cluster.node_unreadable", node=node_id, reason=str(error))
        for node in [node for node in self._alive.values() if node.id not in known and node.id != self.id]:
            _log.info("cluster.node_joined", node=node.id, url=node.url, version=node.version)
        for node in [node for node in known.values() if node.id not in self._alive and node.id != self.id]:
            _log.warning("cluster.node_gone", node=node.id, url=node.url)

    async def leave(self) -> None:
        """Says goodbye, so that nobody waits for this node."""
        try:
            await self._store.ask(_BEAT, self._place, self.id, "", 0)
        except CannotCheck:
            return
