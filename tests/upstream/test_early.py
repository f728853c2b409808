"""What a service says before somebody takes it: the first of it, in order, within bounds."""

from bridge.upstream.early import Early


def test_only_so_many_are_kept() -> None:
    """The first ones, in order; what was taken makes room."""
    early: Early[int] = Early()
    for number in range(1000):
        early.keep_early(number)
    assert early.take_early() == list(range(256))
    early.keep_early(1000)
    assert early.take_early() == [1000]
    assert early.take_early() == []


def test_only_so_many_bytes_are_kept() -> None:
    """However few these are; a small one behind a large one still fits."""
    early: Early[dict[str, str] | bytes] = Early()
    large = {"text": "x" * 3_000_000}
    for one in (large, large, large, b"sound"):
        early.keep_early(one)
    assert early.take_early() == [large, large, b"sound"]
