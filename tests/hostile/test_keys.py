"""Clients with a key of their own who take all they can get, and a stop while they do."""

import asyncio
from pathlib import Path

import pytest

from tests.end_to_end.web import open_socket, request
from tests.hostile.clients import abandoned_calls, minting
from tests.hostile.stage import KEY, OPERATOR, Target, attacked, attacker, serve
from tests.machine import scaled

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_STOP_LIMIT_S = scaled(8.0)
_GONE_LIMIT_S = scaled(5.0)
_MAX_CALLS = 40


@pytest.fixture(scope="module")
def flags() -> tuple[str, ...]:
    """Few calls, so that they are soon taken, and who was lost is waited for long."""
    return ("--api-key", KEY, "--drain-s", "2", "--max-calls", str(_MAX_CALLS), "--resume-grace-s", "600")


async def _minted(target: Target) -> str:
    reply = await request("POST", f"{target.url}v1/realtime/client_secrets", headers=OPERATOR)
    return str(reply.json["value"])


async def test_calls_that_one_key_takes_and_leaves(target: Target) -> None:
    """It gets a quarter of them, and none of them is held for it when its connections have broken."""
    key = await _minted(target)
    outcome = await attacked(target, abandoned_calls, key, 200)
    assert outcome.answer == {"101": _MAX_CALLS // 4, "429": 200 - _MAX_CALLS // 4}, outcome
    outcome.require_harmless()
    own = {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(_GONE_LIMIT_S):
        while (await request("GET", f"{target.url}v1/calls", headers=own)).json["data"]:
            pass
    async with open_socket(target.url, "model=any", additional_headers=own):
        pass


async def test_operator_gets_in_whatever_clients_take(target: Target) -> None:
    """However many keys take their share, some calls are left for the API key."""
    keys = [await _minted(target) for _ in range(6)]
    sockets = []
    for key in keys:
        for _ in range(_MAX_CALLS // 4):
            own = {"Authorization": f"Bearer {key}"}
            reply = await request("GET", f"{target.url}v1/calls", headers=own)
            assert reply.status == 200
            sockets.append(open_socket(target.url, "model=any", additional_headers=own))
    opened = await asyncio.gather(*(socket.__aenter__() for socket in sockets), return_exceptions=True)
    try:
        taken = [one for one in opened if not isinstance(one, BaseException)]
        assert len(taken) == _MAX_CALLS - _MAX_CALLS // 10
        async with open_socket(target.url, "model=any", additional_headers=OPERATOR):
            pass
    finally:
        for socket, one in zip(sockets, opened, strict=True):
            if not isinstance(one, BaseException):
                await socket.__aexit__(None, None, None)


async def test_stop_while_keys_are_minted(flags: tuple[str, ...], tmp_path: Path) -> None:
    """From the signal on no key is given: 503 until the end, which comes in time."""
    with serve(tmp_path / "log", *flags) as target:
        async with open_socket(target.url, "model=any", additional_headers=OPERATOR):  # so that it drains for a while
            async with attacker(target, minting, 6.0) as attacking, asyncio.TaskGroup() as tasks:
                await attacking.begin()
                statuses = tasks.create_task(attacking.result())
                await asyncio.to_thread(target.stop, _STOP_LIMIT_S)
    seen = statuses.result()
    assert {200, 503} == set(seen), seen
    assert 200 not in seen[seen.index(503) :]
