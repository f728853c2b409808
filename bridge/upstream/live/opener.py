"""Opens lines to Live services for one call."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.context import CallContext
from bridge.media.playback import Part
from bridge.upstream.dialer import RetryPolicy, TargetDialer
from bridge.upstream.live.line import LiveLine
from bridge.upstream.live.managed import ManagedLiveLine
from bridge.upstream.live.start import LiveStart
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target
from bridge.wire.server_events import Body

__all__ = ["LiveOpener", "OpenedLive"]


@dataclass(frozen=True, slots=True)
class OpenedLive:
    """A line on which a session has started."""

    managed: ManagedLiveLine
    started: Body
    """The ``session.started`` of the service."""


class LiveOpener:
    """Opens lines; ``new_line`` makes them, and ``part`` says which part of an answer is being given."""

    def __init__(
        self,
        targets: tuple[Target, ...],
        *,
        new_line: Callable[[Target], LiveLine],
        part: Callable[[], Part],
        policy: RetryPolicy,
        tally: Callable[[Target], TargetTally],
        context: CallContext,
    ) -> None:
        self._targets = targets
        self._new_line = new_line
        self._part = part
        self._policy = policy
        self._tally = tally
        self._context = context
        self._dialer = TargetDialer(policy=policy, tally=tally, context=context)

    async def open(self, start: LiveStart, group: asyncio.TaskGroup, *, only: Target | None = None) -> OpenedLive:
        """A session on the first target that starts it, or on ``only`` that one; its line runs in ``group``.

        Raises the last target's ``UpstreamError`` if none does.
        """
        targets = self._targets if only is None else (only,)
        return await self._dialer.dial_first(targets, lambda target: self._open_line(target, start, group))

    async def _open_line(self, target: Target, start: LiveStart, group: asyncio.TaskGroup) -> OpenedLive:
        log = self._context.logger("upstream", upstream=target.name)
        managed = ManagedLiveLine(target, self._new_line(target), part=self._part, log=log)
        started = await managed.open(start, group, within_s=self._policy.connect_s)
        return OpenedLive(managed, started)

    def lose(self, target: Target) -> None:
        """Counts that a line to the target was lost in a call."""
        self._tally(target).lost += 1
