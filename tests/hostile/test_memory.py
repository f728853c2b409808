"""Clients who want everything to be kept: it is kept up to a budget, and refused beyond it."""

import pytest

from tests.hostile.clients import big_items
from tests.hostile.stage import KEY, Target, attacked

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def flags() -> tuple[str, ...]:
    """Listeners with room for an item of 6 MB, and less for all conversations than one may grow by."""
    return (
        *("--api-key", KEY, "--drain-s", "0", "--listener-backlog-bytes", str(32 << 20)),
        *("--conversation-bytes-in-all", str(64 << 20)),
    )


async def test_three_hundred_pictures(target: Target) -> None:
    """What fits into the conversation's budget is kept; each item beyond it is answered with an error, none is lost."""
    outcome = await attacked(target, big_items, "pictures", 3, 300, 1)
    answers = outcome.answer
    assert set(answers) == {"conversation.item.done", "conversation_too_large"}, outcome
    assert sum(answers.values()) == 300, outcome
    assert 4 <= answers["conversation.item.done"] <= 32 // 3 + 2, outcome
    outcome.require_harmless()


async def test_three_hundred_items_of_sound(target: Target) -> None:
    """All are taken, because the engine keeps the sound of the last minute only."""
    outcome = await attacked(target, big_items, "sound", 6, 300, 1)
    assert outcome.answer == {"conversation.item.done": 300}, outcome
    outcome.require_harmless()


async def test_big_items_in_many_conversations(target: Target) -> None:
    """All of them together have a budget as well."""
    outcome = await attacked(target, big_items, "pictures", 3, 10, 10)
    assert sum(outcome.answer.values()) == 100, outcome
    assert outcome.answer["conversation_too_large"] > 0, (
        outcome
    )  # 300 MB, less what a conversation gives back at its end
    outcome.require_harmless(max_growth_mb=160)
