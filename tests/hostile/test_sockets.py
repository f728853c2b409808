"""WebSockets whose frames are many, empty or endless, with any key, and with none at an open telephone endpoint."""

import asyncio
from pathlib import Path

import pytest

from tests.end_to_end.web import request
from tests.hostile.conftest import STOP_LIMIT_S
from tests.hostile.sockets import flood, huge_first_messages, pipelined
from tests.hostile.stage import KEY, OPERATOR, Target, attacked, attacker, serve

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_OWN = "/v1/realtime?model=any"
_TELNYX = "/v1/telephony/telnyx"
_ATTACK_S = 4.0


@pytest.mark.parametrize("kind", ["fragments", "empty", "pings", "pongs", "bad_events"])
@pytest.mark.parametrize(("path", "key"), [(_OWN, KEY), (_TELNYX, None)], ids=["own", "telnyx"])
async def test_flood_of_small_frames(target: Target, path: str, key: str | None, kind: str) -> None:
    """One socket waits for its turn; nobody else does."""
    outcome = await attacked(target, flood, path, key, kind, 1, 10, _ATTACK_S, True)
    outcome.require_harmless()


@pytest.mark.parametrize("kind", ["pings", "bad_events"])
async def test_flood_whose_answers_nobody_reads(target: Target, kind: str) -> None:
    """What is answered to it is not kept without end."""
    outcome = await attacked(target, flood, _OWN, KEY, kind, 1, 10, _ATTACK_S, False)
    outcome.require_harmless()


@pytest.mark.parametrize("kind", ["bad_events", "appends", "fragments"])
async def test_twenty_sockets_of_one_key(target: Target, kind: str) -> None:
    """All of them together leave the others their turns."""
    body = '{"bridge": {"max_duration_s": 60}}'
    minted = await request("POST", f"{target.url}v1/realtime/client_secrets", headers=OPERATOR, body=body)
    outcome = await attacked(target, flood, _OWN, minted.json["value"], kind, 20, 200, _ATTACK_S, True)
    outcome.require_harmless()


async def test_huge_messages_before_the_token(target: Target) -> None:
    """A socket that has not started its call may send little, and is closed when it sends more."""
    outcome = await attacked(target, huge_first_messages, _TELNYX, 50, 20)
    outcome.require_harmless(max_growth_mb=50)


async def test_requests_that_are_sent_ahead(target: Target) -> None:
    """Each connection has its turn, and so has everybody else."""
    outcome = await attacked(target, pipelined, 20, _ATTACK_S)
    outcome.require_harmless()
    assert outcome.answer > 0


@pytest.mark.parametrize("kind", ["fragments", "pings", "appends"])
async def test_stop_in_the_midst_of_it(flags: tuple[str, ...], tmp_path: Path, kind: str) -> None:
    """SIGTERM ends it in time, whoever is at it."""
    with serve(tmp_path / "log", *flags) as target:
        async with attacker(target, flood, _OWN, KEY, kind, 20, 500, 20.0, True) as attacking:
            async with asyncio.TaskGroup() as tasks:
                await attacking.begin()
                result = tasks.create_task(attacking.result())
                await asyncio.to_thread(target.stop, STOP_LIMIT_S)
                result.cancel()
