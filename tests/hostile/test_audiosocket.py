"""AudioSocket's port: whoever reaches it needs no key to connect, and brings no call."""

import pytest

from tests.hostile.stage import Target, attacked
from tests.hostile.strangers import audiosocket_flood, audiosocket_hold

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_ATTACK_S = 4.0
_DEADLINE_S = 14.0


@pytest.mark.parametrize("connections", [1, 20])
async def test_flood_of_small_frames(target: Target, connections: int) -> None:
    """Each connection waits for its turn."""
    outcome = await attacked(target, audiosocket_flood, _ATTACK_S, connections)
    outcome.require_harmless()
    assert outcome.answer > 0


async def test_connections_without_a_call(target: Target) -> None:
    """They are closed for it, and only so many of one address are kept until then."""
    outcome = await attacked(target, audiosocket_hold, 400, 2.0)
    outcome.require_harmless()
    assert 0 < outcome.answer <= 256
    outcome = await attacked(target, audiosocket_hold, 100, _DEADLINE_S)
    outcome.require_harmless()
    assert outcome.answer == 0
