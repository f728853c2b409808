"""Dials targets for one call: how often each is tried, how long the bridge waits in between, and what is counted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from bridge.context import CallContext
from bridge.errors import UpstreamError
from bridge.outgoing import retry_delay_s
from bridge.upstream.tally import TargetTally
from bridge.upstream.target import Target

__all__ = ["RetryPolicy", "TargetDialer"]

_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long the bridge waits for an upstream, in seconds, and how often it tries."""

    connect_s: float = 10.0
    stall_s: float = 15.0
    """The time without an event while an answer is owed."""
    renew_s: float = 3300.0
    """The age at which a line is replaced, before its service ends it."""
    tries: int = 3
    """How often each target is tried."""


class TargetDialer:
    """Dials targets as often as ``policy`` says, whatever a line to them is."""

    def __init__(self, *, policy: RetryPolicy, tally: Callable[[Target], TargetTally], context: CallContext) -> None:
        self._policy = policy
        self._tally = tally
        self._call_id = context.call_id
        self._log = context.logger("upstream")

    async def dial_first(
        self, targets: tuple[Target, ...], open_line: Callable[[Target], Awaitable[_Opened]]
    ) -> _Opened:
        """Returns what ``open_line`` returns for the first target that answers.

        Raises the last target's ``UpstreamError`` if none of the ``targets``, of which there is at least one, answers.
        """
        failure: UpstreamError | None = None
        for target in targets:
            for number in range(self._policy.tries):
                try:
                    return await self.dial(target, open_line)
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
        assert failure is not None, "there is a target"
        raise failure

    async def dial(self, target: Target, open_line: Callable[[Target], Awaitable[_Opened]]) -> _Opened:
        """Dials one target once, and counts how that went; raises ``UpstreamError``."""
        tally = self._tally(target)
        tally.dials += 1
        now = asyncio.get_running_loop().time
        began = now()
        try:
            opened = await open_line(target)
        except UpstreamError as failure:  # a caller who hangs up meanwhile is no failure of the target's
            tally.dialled(self._call_id, now() - began, failure)
            raise
        tally.dialled(self._call_id, now() - began)
        tally.answer()
        return opened
