"""Which packets are sent again, and how often."""

from bridge.media.history import SentPackets


def kept(first: int, count: int) -> SentPackets:
    history = SentPackets()
    for sequence in range(first, first + count):
        history.keep(sequence & 0xFFFF, b"%d" % (sequence & 0xFFFF))
    return history


def test_what_was_sent_is_sent_again() -> None:
    """The very same datagrams, in the order that was asked, over the wrap too."""
    history = kept(65_530, 10)
    assert history.again([65_531, 2, 65_535, 0], 1.0) == [b"65531", b"2", b"65535", b"0"]
    assert history.resent == 4


def test_the_past_is_bounded() -> None:
    """Of 1,000 packets the last 64 are there; a packet never sent is not."""
    history = kept(0, 1000)
    assert history.again([0, 935, 936, 999, 1000, 65_535], 1.0) == [b"936", b"999"]


def test_nothing_is_sent_twice_in_a_round_trip() -> None:
    """Who asks again before the answer can be there waits for it; later it may be sent once more."""
    history = kept(0, 10)
    assert history.again([5, 5, 5], 1.0, round_trip_s=0.1) == [b"5"]
    assert history.again([5, 6], 1.05, round_trip_s=0.1) == [b"6"]
    assert history.again([5], 1.1, round_trip_s=0.1) == [b"5"]
    history.keep(5 + 64, b"new")
    assert history.again([5, 69], 1.1) == [b"new"]


def test_a_flood_of_requests_is_cut() -> None:
    """One request brings 64 packets at most, whatever is in it."""
    assert len(kept(0, 64).again(list(range(64)) * 100, 1.0)) == 64
