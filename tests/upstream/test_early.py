"""What a service says before somebody takes it: the first of it, in order, within bounds."""

from bridge.upstream.early import Early


def test_only_so_many_are_kept() -> None:
    """The first ones, in order; what was taken makes room."""
    early: Early[int] = Early()
    for number in range(1000):
        early.add(number)
    assert early.take() == list(range(256))
    early.add(1000)
    assert early.take() == [1000]
    assert early.take() == []


def test_only_so_many_bytes_are_kept() -> None:
    """However few these are; a small one behind a large one still fits."""
    early: Early[dict[str, str] | bytes] = Early()
    large = {"text": "x" * 3_000_000}
    for one in (large, large, large, b"sound"):
        early.add(one)
    assert early.take() == [large, large, b"sound"]
