"""Requests whose line or headers are too long, or have no end; nobody needs a key for them."""

import pytest

from tests.hostile.stage import Target, attacked
from tests.hostile.strangers import endless_head

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_MB = 1024 * 1024


@pytest.mark.parametrize(("kind", "status"), [("url", 414), ("header", 431), ("headers", 431), ("upgrade", 431)])
async def test_head_without_end(target: Target, kind: str, status: int) -> None:
    """It is refused after 64 KiB at the latest, and kept nowhere."""
    outcome = await attacked(target, endless_head, kind, 64, 4)
    outcome.require_harmless()
    for answered, taken in outcome.answer:
        assert answered in (status, 0), outcome  # 0: the answer was lost with what was still on its way to the daemon
        assert taken < 16 * _MB, outcome  # what the kernel holds on both sides
