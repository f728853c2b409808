"""Forms that are made to take long; any key opens the door that reads them."""

import pytest

from tests.end_to_end.web import request
from tests.hostile.stage import KEY, OPERATOR, Target, attacked
from tests.hostile.strangers import forms

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.mark.parametrize(
    "kind", ["content_type", "encoded_words", "parameters", "comments", "parts", "nested", "nearly"]
)
async def test_form_that_takes_long(target: Target, kind: str) -> None:
    """It is refused, or read in a time that its length bounds."""
    outcome = await attacked(target, forms, KEY, kind, 20)
    outcome.require_harmless()
    assert outcome.answer == {"400": 20}


async def test_form_of_who_may_not_call(target: Target) -> None:
    """A key that may only listen is refused before its body is read."""
    body = '{"bridge": {"role": "observer"}}'
    minted = await request("POST", f"{target.url}v1/realtime/client_secrets", headers=OPERATOR, body=body)
    outcome = await attacked(target, forms, minted.json["value"], "nearly", 20)
    outcome.require_harmless()
    assert outcome.answer == {"403": 20}
