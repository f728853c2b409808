"""Identifiers."""

import re

import pytest

from bridge.wire.ids import new_id


@pytest.mark.parametrize("prefix", ["rtc", "sess", "item", "resp", "event", "call", "conv"])
def test_an_id_tells_its_kind(prefix: str) -> None:
    """A prefix, an underscore, then letters and digits only: safe in URLs, logs and JSON."""
    assert re.fullmatch(rf"{prefix}_[A-Za-z0-9]{{22}}", new_id(prefix))


def test_ids_are_unique_and_use_the_whole_alphabet() -> None:
    """No id comes twice, and every place takes every letter."""
    ids = [new_id("item") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for place in zip(*(made.removeprefix("item_")[:21] for made in ids), strict=True):
        assert len(set(place)) == 62
