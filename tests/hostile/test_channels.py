"""Data channels over which very much is said at once."""

import pytest

from tests.hostile.channels import channel_flood
from tests.hostile.stage import Target, attacked

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.mark.parametrize(("kind", "count"), [("updates", 3000), ("questions", 3000), ("tools", 20)])
async def test_flood_of_events(target: Target, kind: str, count: int) -> None:
    """One channel waits for its turn, as a socket does; nobody else does, and what it asked is answered."""
    outcome = await attacked(target, channel_flood, kind, count)
    assert outcome.answer > 0, outcome
    outcome.require_harmless()
