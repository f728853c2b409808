"""Opens lines to Live services for one call: which is dialled, how often it is tried, and when it is given up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.context import CallContext
from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.outgoing import retry_delay_s
from bridge.upstream.live.line import LiveLine
from bridge.upstream.live.managed import ManagedLiveLine
from bridge.upstream.live.start import LiveStart
from bridge.upstream.opener import RetryPolicy
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
        self._log = context.logger("upstream")

    async def open(self, start: LiveStart, group: asyncio.TaskGroup, *, only: Target | None = None) -> OpenedLive:
        """A session on the first target that starts it, or on ``only`` that one; its line runs in ``group``.

        Raises the last target's ``UpstreamError`` if none does.
        """
        failure: UpstreamError | None = None
        for target in self._targets if only is None else (only,):
            for number in range(self._policy.tries):
                try:
                    return await self._open_line(target, start, group)
                except UpstreamError as error:
                    failure = error
                delay_s = retry_delay_s(failure, number)
                if delay_s is None or number + 1 == self._policy.tries:
                    break
                self._log.info("upstream.retry", upstream=target.name, url=target.shown_url, code=failure.code,
                               message=failure.message, in_s=round(delay_s, 2))  # fmt: skip
                await asyncio.sleep(delay_s)
            assert failure is not None, "each target is tried at least once"
            self._tally(target).give_up(failure)
            self._log.warning("upstream.refused", upstream=target.name, url=target.shown_url,
                              code=failure.code, message=failure.message)  # fmt: skip
        assert failure is not None, "a call has targets"
        raise failure

    async def _open_line(self, target: Target, start: LiveStart, group: asyncio.TaskGroup) -> OpenedLive:
        managed = ManagedLiveLine(target, self._new_line(target), part=self._part)
        tally = self._tally(target)
        tally.dials += 1
        call_id, now = self._context.call_id, asyncio.get_running_loop().time
        began = now()
        try:
            started = await managed.open(start, group, within_s=self._policy.connect_s)
        except UpstreamError as failure:
            tally.dialled(call_id, now() - began, failure)
            raise
        tally.dialled(call_id, now() - began)
        tally.answer()
        return OpenedLive(managed, started)

    def lose(self, target: Target) -> None:
        """Counts that a line to the target was lost in a call."""
        self._tally(target).lost += 1
