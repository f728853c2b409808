"""Single messages that are costly to read, to judge or to count, by whoever may open a session, in either dialect."""

import pytest

from tests.hostile.clients import costly_messages
from tests.hostile.stage import Target, attacked

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.mark.parametrize("dialect", ["ga", "beta"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("array", "event_too_large"),
        ("keys", "event_too_large"),
        ("tools", "event_too_large"),
        ("parts", "event_too_large"),
        ("strings", "event_too_large"),
        ("escapes", "event_too_large"),
        ("spaces", "event_too_large"),
        ("broken", "invalid_json"),
    ],
)
async def test_costly_message(target: Target, kind: str, code: str, dialect: str) -> None:
    """It is refused before anything is made of it, and the session lives on: none of twenty keeps anybody waiting."""
    outcome = await attacked(target, costly_messages, kind, 20 if code != "invalid_json" else 2, dialect)
    assert set(outcome.answer) == {code}, outcome
    outcome.require_harmless()


@pytest.mark.parametrize("kind", ["many_tools", "many_parts", "many_keys"])
async def test_as_much_as_is_allowed(target: Target, kind: str) -> None:
    """Events with as many values as they may have are carried out by turns."""
    outcome = await attacked(target, costly_messages, kind, 20, "ga")
    assert "event_too_large" not in outcome.answer, outcome
    outcome.require_harmless()
