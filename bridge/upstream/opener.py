"""Opens the lines of one call: which target is dialled, and which is not dialled any more."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from bridge.context import CallContext
from bridge.errors import UpstreamError
from bridge.outgoing import retry_delay_s
from bridge.session.state import SessionState
from bridge.upstream.dialer import RetryPolicy, TargetDialer
from bridge.upstream.line import Line
from bridge.upstream.managed_line import ManagedRealtimeLine
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target, Transport
from bridge.wire.server_events import Body

__all__ = ["STALLED", "LineOpener", "OpenedLine"]

STALLED = "upstream_stalled"
"""The code of an upstream that owes an answer and says nothing."""

_STEADY_S = 10.0  # a line that lasts so long, or gives an answer, was worth dialling


@dataclass(frozen=True, slots=True)
class OpenedLine:
    """A line on which the upstream has greeted."""

    managed: ManagedRealtimeLine
    session: Body
    """The session as the upstream describes it."""


class LineOpener:
    """Opens lines to the targets that are left. A target whose lines fail time and again is not dialled any more."""

    def __init__(
        self,
        targets: tuple[Target, ...],
        *,
        new_line: Callable[[Target], Line],
        policy: RetryPolicy,
        tally: Callable[[Target], TargetTally],
        context: CallContext,
    ) -> None:
        self._targets = targets
        self._new_line = new_line
        self._policy = policy
        self._tally = tally
        self._context = context
        self._dialer = TargetDialer(policy=policy, tally=tally, context=context)
        self._strikes = 0
        """How many lines in a row have failed."""

    async def open(self, session: SessionState, group: asyncio.TaskGroup) -> OpenedLine | None:
        """A line to the first target that answers, which runs in ``group``; None if the engine is next.

        Raises the last target's ``UpstreamError`` if none answers.
        """
        before_engine = tuple(takewhile(lambda target: target.transport is not Transport.LOCAL, self._targets))
        has_engine = len(before_engine) < len(self._targets)
        if has_engine and not before_engine:
            return None
        try:
            return await self._dialer.dial_first(before_engine, lambda target: self._open_line(target, session, group))
        except UpstreamError:
            if has_engine:
                return None
            raise

    async def open_anew(self, session: SessionState, group: asyncio.TaskGroup) -> OpenedLine:
        """Opens one more line to the first target, and tries once; raises ``UpstreamError``."""
        return await self._dialer.dial(self._targets[0], lambda target: self._open_line(target, session, group))

    async def _open_line(self, target: Target, session: SessionState, group: asyncio.TaskGroup) -> OpenedLine:
        managed = ManagedRealtimeLine(
            target, self._new_line(target), log=self._context.logger("upstream", upstream=target.name)
        )
        created = await managed.open(session, group, within_s=self._policy.connect_s)
        return OpenedLine(managed, created)

    def count_renewal(self, fresh: OpenedLine) -> None:
        """Counts that the line takes the place of one that was too old."""
        self._tally(fresh.managed.target).renewals += 1

    def judge(self, target: Target, ending: UpstreamError, *, lasted_s: float, has_answered: bool) -> float:
        """A line to ``target`` was lost: how many seconds to wait before the next dial.

        Raises ``ending`` if no target is left.
        """
        self._tally(target).lost += 1
        is_steady = lasted_s >= _STEADY_S and ending.code != STALLED
        self._strikes = 0 if is_steady or has_answered else self._strikes + 1
        if not ending.is_transient or self._strikes >= self._policy.tries:
            self._strikes = 0
            self._targets = tuple(one for one in self._targets if one is not target)
            if not self._targets:
                raise ending
        elif self._strikes > 1:
            return retry_delay_s(ending, self._strikes - 2) or 0.0
        return 0.0
