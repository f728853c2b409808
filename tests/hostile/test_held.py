"""Connections that say too little and never go: each has a deadline, and a stop waits for none of them."""

import asyncio
from pathlib import Path

import pytest

from tests.end_to_end.web import request
from tests.hostile.conftest import STOP_LIMIT_S
from tests.hostile.sockets import hold
from tests.hostile.stage import Target, attacked, attacker, serve

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_KINDS = [
    *("long_upgrade", "no_upgrade", "half_head", "half_second", "refused_body", "admitted_body", "nothing"),
    "line_ends",  # let pass in front of a request (RFC 9112 section 2.2), but not for ever
]
_DEADLINE_S = 14.0


@pytest.mark.parametrize("trickle", ["", "a"], ids=["silent", "trickling"])
async def test_connections_that_never_go(target: Target, trickle: str) -> None:
    """They are closed for it, though they send a byte now and then."""
    outcome = await attacked(target, hold, _KINDS, 10, _DEADLINE_S, trickle)
    outcome.require_harmless()
    assert outcome.answer == []


@pytest.mark.parametrize("kinds", [[kind] for kind in _KINDS], ids=_KINDS)
async def test_stop_with_connections_that_never_go(flags: tuple[str, ...], tmp_path: Path, kinds: list[str]) -> None:
    """Exit 0, in time, and ``daemon.stopped``."""
    with serve(tmp_path / "log", *flags) as target:
        async with attacker(target, hold, kinds, 5, 20.0, "a") as attacking, asyncio.TaskGroup() as tasks:
            await attacking.begin()
            result = tasks.create_task(attacking.result())
            await asyncio.to_thread(target.stop, STOP_LIMIT_S)
            result.cancel()


async def test_too_many_connections_that_say_nothing(target: Target) -> None:
    """Of one address only so many are kept, and the next is told to come later; who was let in is not counted."""
    outcome = await attacked(target, hold, ["half_head"], 400, 3.0, "")
    outcome.require_harmless()
    assert 0 < len(outcome.answer) <= 256
    assert (await request("GET", f"{target.url}healthz")).status == 200
