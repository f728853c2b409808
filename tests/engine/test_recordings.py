"""What was heard and said, by item, and its bound."""

from bridge.engine.recordings import BYTES_PER_MS, PIECE_BYTES, Recordings, in_pieces
from bridge.session.budget import Budget

SECOND = bytes(1000 * BYTES_PER_MS)


def second() -> list[bytes]:
    """Sound of its own, in pieces."""
    return list(in_pieces(SECOND))


def test_sound_and_words_belong_together() -> None:
    """An item has its sound, how long that is, and what was understood in it; a forgotten one has neither."""
    kept = Recordings(60_000)
    kept.keep("a", second())
    kept.understand("a", "hello")
    assert (kept.sound("a"), kept.duration_ms("a"), kept.words("a")) == (SECOND, 1000, "hello")
    kept.forget("a")
    kept.understand("a", "hello")
    assert (kept.sound("a"), kept.duration_ms("a"), kept.words("a")) == (b"", 0, "")


def test_a_cut_stays() -> None:
    """What was never heard is gone; an item without sound is not made one."""
    kept = Recordings(60_000)
    kept.keep("a", second())
    kept.cut("a", 130 * BYTES_PER_MS)
    kept.cut("b", 0)
    assert (kept.duration_ms("a"), kept.sound("b")) == (130, b"")


def test_the_oldest_sound_goes_first() -> None:
    """Only so much is kept, however it came to be that much; how long it was and what was said stays known."""
    kept = Recordings(2500)
    for name in "abc":
        kept.keep(name, second())
        kept.understand(name, name)
    assert [kept.sound(name) for name in "abc"] == [b"", SECOND, SECOND]
    assert [kept.duration_ms(name) for name in "abc"] == [1000, 1000, 1000]
    assert [kept.words(name) for name in "abc"] == ["a", "b", "c"]
    kept.keep("b", second())  # again: counted once
    kept.cut("c", 0)
    kept.keep("d", second())
    assert [kept.sound(name) for name in "bcd"] == [SECOND, b"", SECOND]
    kept.keep("e", in_pieces(3 * SECOND))
    assert [kept.sound(name) for name in "bcde"] == [b""] * 4
    assert kept.duration_ms("e") == 3000


def test_sound_that_two_items_share_is_kept_once() -> None:
    """An item that repeats another one's pieces takes no room; the room is given back with the last of the two."""
    budget = Budget()
    kept = Recordings(60_000, budget)
    pieces = second()
    assert (len(pieces), max(map(len, pieces))) == (5, PIECE_BYTES)
    kept.keep("said", pieces)
    kept.keep("repeated", pieces)
    assert (kept.sound("said"), kept.sound("repeated"), budget.used_bytes) == (SECOND, SECOND, len(SECOND))
    kept.cut("repeated", PIECE_BYTES + 2)
    assert (kept.sound("repeated"), budget.used_bytes) == (SECOND[: PIECE_BYTES + 2], len(SECOND) + 2)
    kept.forget("said")
    assert budget.used_bytes == PIECE_BYTES + 2
    kept.forget("repeated")
    assert budget.used_bytes == 0


def test_sound_may_go_some_time_after_it_came() -> None:
    """Then it is dropped with the next item; what that item repeats stays, and so does the newest, however old."""
    kept = Recordings(60_000, past_ms=1500)
    for number, name in enumerate("abc"):
        kept.keep(name, second(), now_ms=1000 * number)
    assert [bool(kept.sound(name)) for name in "abc"] == [False, True, True]
    question = second()
    kept.keep("question", question, now_ms=10_000)
    kept.keep("answer", question, now_ms=20_000)
    assert [bool(kept.sound(name)) for name in ("b", "c", "question", "answer")] == [False, False, True, True]
    kept.keep("d", second(), now_ms=30_000)
    assert [bool(kept.sound(name)) for name in ("question", "answer", "d")] == [False, False, True]


def test_what_was_heard_of_words_that_were_cut() -> None:
    """Pieces whose sound was heard whole, and of the one that was cut, as many whole words as of its sound."""
    for heard_ms, words in ((2000, "One two. Three four."), (1500, "One two. Three"), (1000, "One two."), (100, "")):
        kept = Recordings(10_000)
        kept.keep("item_1", [bytes(2000 * BYTES_PER_MS)])
        kept.note_spoken("item_1", [(0, "One two. "), (1000 * BYTES_PER_MS, "Three four.")], 2000 * BYTES_PER_MS)
        assert kept.words("item_1") == ""
        kept.cut("item_1", heard_ms * BYTES_PER_MS)
        assert kept.words("item_1") == words
        late = Recordings(10_000)
        late.keep("item_1", [bytes(heard_ms * BYTES_PER_MS)])
        late.note_spoken(
            "item_1",
            [(0, "One two. "), (1000 * BYTES_PER_MS, "Three four.")],
            2000 * BYTES_PER_MS,
            heard_bytes=heard_ms * BYTES_PER_MS,
        )
        assert late.words("item_1") == words
