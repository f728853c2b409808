"""The shared Redis: commands that end in time, and changes that are written a little later.

Theory of operation. What has to be known before a request goes on is asked (``ask``), within a bounded time. While
Redis does not answer, ``CannotCheck`` comes at once, and one command in half a second tries again. What others need to
learn soon is marked (``soon``), and one task writes it in batches. Each mark names a fact, and the newest value of the
fact is read when it is written. So a fact that changes often is written once, and what waits is bounded. While Redis is
away, marks stay. When it is back, all owners publish what they have (``on_back``), because it may have come back empty.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, RedisError

from bridge.cluster.address import RedisAddress, close_client
from bridge.errors import CannotCheck
from bridge.log import get_logger

__all__ = ["Command", "Script", "SharedStore"]

_log = get_logger("cluster")

Command = tuple[str | bytes | int, ...]
"""A command and its arguments. ``SharedStore.name`` names its one key."""

_FLUSH_S = 0.05
_TRY_AGAIN_S = 0.5
_BATCH = 500
_AT_ONCE = 32  # commands under way, each on its own connection
_MAX_WAITING = 20_000  # facts that wait while Redis is away; further ones are not told to others
_CLOSE_S = 2.0
_FAILURES = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Script:
    """A program in Lua that Redis runs in one step, on one key, so that a Redis Cluster can run it as well."""

    source: str

    @property
    def sha(self) -> str:
        """The hash by which Redis knows the program."""
        return hashlib.sha1(self.source.encode()).hexdigest()

    def on(self, key: str, *arguments: str | bytes | int) -> Command:
        """Returns the program as a command that is written a little later."""
        return ("EVAL", self.source, 1, key, *arguments)


class _Change(NamedTuple):
    commands: Callable[[], Iterable[Command]]
    on_answer: Callable[[Any], None]


class SharedStore:
    """The Redis that the processes of a cluster share.

    ``async with`` owns the connections and the task that writes.
    """

    def __init__(self, url: str, cluster_name: str, *, timeout_s: float) -> None:
        self.complaint: str | None = None
        """What is wrong, if Redis does not answer; None if it does."""
        self.failures = 0
        """The number of commands that failed, without those that were not sent because one before had failed."""
        self.asked = 0
        """The number of commands and batches that were sent."""
        self.on_back: list[Callable[[], None]] = []
        """What is called each time Redis answers again after it was away."""
        self._client = RedisAddress(url).new_client(timeout_s)
        self._prefix = cluster_name
        self.timeout_s = timeout_s
        self._clock_ms = (time.time() - time.monotonic()) * 1000
        """Redis's clock less the monotonic one, in ms. It is this machine's clock until Redis's is known."""
        self._try_again_at = 0.0
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._soon: dict[object, _Change] = {}
        self._writing = asyncio.Lock()
        self._has_changes = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "SharedStore":
        await self._tasks.__aenter__()
        self._writer = self._tasks.create_task(self._write())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._writer is not None:
            self._writer.cancel()
        await self._tasks.__aexit__(None, None, None)
        if self.complaint is None:
            await self.settle()
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(_CLOSE_S):
                await close_client(self._client)

    def name(self, *parts: str) -> str:
        """Returns the name of a key of this cluster. The part in braces decides where a Redis Cluster keeps it."""
        return ":".join((self._prefix, *parts))

    @property
    def is_up(self) -> bool:
        """Whether Redis has answered the last command."""
        return self.complaint is None

    @property
    def now_ms(self) -> int:
        """The time of Redis's clock, which all processes share, in ms."""
        return int(time.monotonic() * 1000 + self._clock_ms)

    # Asking

    async def ask(self, script: Script, key: str, *arguments: str | bytes | int) -> Any:
        """Returns what ``script`` returns; raises ``CannotCheck`` if Redis does not say so in time."""
        return await self._sent(lambda: self._evaluate(script, key, arguments))

    async def command(self, *command: str | bytes | int) -> Any:
        """Returns what Redis answers to one command; raises ``CannotCheck``."""
        return await self._sent(lambda: self._client.execute_command(*command))

    def learn_time(self, told_ms: int, asked_at_s: float) -> None:
        """Learns that Redis's clock was at ``told_ms`` when it was asked at ``asked_at_s`` of the monotonic clock."""
        self._clock_ms = told_ms - (asked_at_s + time.monotonic()) * 500

    async def _evaluate(self, script: Script, key: str, arguments: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._client.evalsha(script.sha, 1, key, *arguments)
        except NoScriptError:
            return await self._client.eval(script.source, 1, key, *arguments)

    async def _sent(self, send: Callable[[], Any]) -> Any:
        now = time.monotonic()
        if self.complaint is not None and now < self._try_again_at:
            raise self._refusal()
        self._try_again_at = now + _TRY_AGAIN_S
        self.asked += 1
        try:
            async with _bounded(self.timeout_s), self._at_once:
                answer = await send()
        except _FAILURES as error:
            self._fail(error)
            raise self._refusal() from None
        self._succeed()
        return answer

    def _refusal(self) -> CannotCheck:
        return CannotCheck("The server cannot look up what this depends on right now; try again soon.")

    def _fail(self, error: BaseException) -> None:
        self.failures += 1
        reason = "it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        if self.complaint is None:
            _log.warning("cluster.redis_lost", reason=reason)
        self.complaint = f"Redis does not answer: {reason}."

    def _succeed(self) -> None:
        if self.complaint is None:
            return
        self.complaint = None
        _log.info("cluster.redis_back")
        self.publish_all()

    def publish_all(self) -> None:
        """Has everybody tell again what they have."""
        for tell in self.on_back:
            tell()

    # Telling

    def soon(
        self,
        fact: object,
        commands: Callable[[], Iterable[Command]],
        on_answer: Callable[[Any], None] = lambda answer: None,
    ) -> None:
        """Writes what ``commands`` returns of ``fact``, in some hundredths of a second; it is called just before.

        ``on_answer`` gets Redis's answer to the last of these commands.
        """
        if len(self._soon) < _MAX_WAITING or fact in self._soon:
            self._soon[fact] = _Change(commands, on_answer)
        self._has_changes.set()

    async def _write(self) -> None:
        while True:
            await self._has_changes.wait()
            await asyncio.sleep(_FLUSH_S)
            if self.complaint is not None:
                await asyncio.sleep(_TRY_AGAIN_S)
            try:
                await self._flush()
            except _FAILURES as error:
                self._fail(error)
            except Exception as error:  # a fact that cannot be written must not keep the others
                _log.error("cluster.write_failed", exc_info=error)

    async def settle(self) -> None:
        """Returns as soon as all that was told until now is written, after two seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                while True:
                    try:
                        await self._flush()
                        return
                    except _FAILURES as error:
                        self._fail(error)
                    await asyncio.sleep(_FLUSH_S)

    async def _flush(self) -> None:
        async with self._writing:
            await self._flush_alone()

    async def _flush_alone(self) -> None:
        while self._soon:
            batch = dict(list(self._soon.items())[:_BATCH])
            for fact in batch:
                del self._soon[fact]
            told = [(change, list(change.commands())) for change in batch.values()]
            commands = [command for _, own in told for command in own]
            if not commands:
                continue
            try:
                async with _bounded(self.timeout_s):
                    answers = iter(await self._send(commands))
            except BaseException:
                self._soon = {**batch, **self._soon}
                raise
            self._succeed()
            for change, own in told:
                for answer in list(islice(answers, len(own)))[-1:]:
                    change.on_answer(answer)
        self._has_changes.clear()

    async def _send(self, commands: list[Command]) -> list[Any]:
        self.asked += 1
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


@contextlib.asynccontextmanager
async def _bounded(limit_s: float) -> AsyncIterator[None]:
    """Limits the time like ``asyncio.timeout``, and also ends a task that is cancelled inside.

    redis-py may lose the cancelling if it is connecting.
    """
    task = asyncio.current_task()
    assert task is not None, "it is used inside of tasks"
    before = task.cancelling()
    try:
        async with asyncio.timeout(limit_s):
            yield
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError
