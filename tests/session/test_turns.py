"""Turns of the event loop: who takes little is served at once, who takes much by turns."""

import asyncio
import time

from bridge.turns import Share, Shares, Turns, Work
from tests.machine import scaled


def test_a_share_is_a_leaky_bucket() -> None:
    """A burst is free; what is over drains with time."""
    share = Share(0.1, 0.5)
    share.count_seconds(0.5, 10.0)
    assert not share.is_over(10.0)
    share.count_seconds(0.2, 10.0)
    assert share.is_over(10.0)
    assert share.is_over(11.9)
    assert not share.is_over(12.1)


def test_a_share_of_a_share() -> None:
    """Two sockets of one key together may take what the key may, whatever each of them may."""
    key = Share(0.1, 1.0)
    first, second = Share(0.1, 5.0, of=key), Share(0.1, 5.0)
    second.join(key)
    first.count_seconds(0.6, 1.0)
    assert not second.is_over(1.0)
    second.count_seconds(0.6, 1.0)
    assert first.is_over(1.0)
    assert second.is_over(1.0)
    assert not first.is_over(4.0)


def test_a_name_has_one_share() -> None:
    """The same one for all who are there, and a new one when all are gone."""
    shares = Shares(0.1, 0.0)
    share = shares.of("key")
    share.count_seconds(1.0, 1.0)
    assert shares.of("key") is share
    assert shares.of("other") is not share
    del share
    assert not shares.of("key").is_over(1.0)


async def test_one_turn_in_each_round() -> None:
    """However many wait, others come in between each two of them."""
    loop = asyncio.get_running_loop()
    turns = Turns.of(loop)
    assert Turns.of(loop) is turns
    order: list[str] = []
    done = asyncio.Event()

    def others() -> None:
        order.append("others")
        if len(order) < 6:
            loop.call_soon(others)
        else:
            done.set()

    for name in "abc":
        turns.call(lambda name=name: order.append(name))  # type: ignore[misc]
    loop.call_soon(others)
    await done.wait()
    assert order == ["a", "others", "b", "others", "c", "others"]


async def test_a_turn_that_fails_is_not_the_last() -> None:
    """Whoever is next is served all the same."""
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))
    served = asyncio.Event()
    Turns.of(loop).call(lambda: 1 // 0)
    Turns.of(loop).call(served.set)
    async with asyncio.timeout(scaled(5.0)):
        await served.wait()
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


class _Noted(Share):
    """A share that is used up, and notes what is taken."""

    def __init__(self) -> None:
        super().__init__(0.0, -1.0)
        self.taken_s: list[float] = []

    def count_seconds(self, seconds: float, now: float) -> None:
        super().count_seconds(seconds, now)
        self.taken_s.append(seconds)


async def test_work_that_takes_too_much_waits() -> None:
    """It rests until its turn comes; the wait is not counted."""
    loop = asyncio.get_running_loop()
    work = Work(loop)
    assert work.has_time
    assert work.begin_in_time()
    work.end()
    work.share = noted = _Noted()
    assert not work.has_time
    assert not work.begin_in_time()
    work.begin()
    order: list[str] = []

    def work_of_another() -> None:
        until = time.perf_counter() + 0.1
        while time.perf_counter() < until:
            pass
        order.append("earlier")

    Turns.of(loop).call(work_of_another)
    await work.rest()
    assert order == ["earlier"]
    work.end()  # does nothing: nothing has begun again
    assert len(noted.taken_s) == 1
    assert noted.taken_s[0] < 0.1


async def test_work_that_takes_little_goes_on() -> None:
    """Without a pause nobody else comes in between."""
    loop = asyncio.get_running_loop()
    work = Work(loop)
    order: list[str] = []
    loop.call_soon(order.append, "others")
    work.begin()
    await work.rest()
    assert order == []
    work.begin()
    await work.rest(is_pause=True)
    assert order == ["others"]
