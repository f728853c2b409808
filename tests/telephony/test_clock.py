"""The clock of all telephone calls: it ticks every 20 ms for those who are there."""

import asyncio

from bridge.telephony.clock import Clock
from tests.machine import scaled


class Ticked:
    """A member that counts its ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self._had_ten = asyncio.Event()

    def tick(self, now: float) -> None:
        self.ticks += 1
        if self.ticks == 10:
            self._had_ten.set()

    async def until_ten(self) -> None:
        async with asyncio.timeout(scaled(5)):
            await self._had_ten.wait()


async def test_it_runs_while_there_are_members() -> None:
    """The first one starts it, each later one too, and one that was removed is not called any more."""
    async with Clock() as clock:
        members = []
        for _ in range(3):
            members.append(Ticked())
            began = clock.now
            clock.add(members[-1])
            await members[-1].until_ten()
            assert clock.now - began >= 10 * 0.020 - 0.001
            clock.remove(members[-1])
            clock.remove(members[-1])
            await asyncio.sleep(0.05)  # the tick that finds nobody
        assert [member.ticks for member in members] == [10, 10, 10]


async def test_a_second_member_joins_the_first() -> None:
    """Both are called by one timer, equally often."""
    async with Clock() as clock:
        one, two = Ticked(), Ticked()
        clock.add(one)
        clock.add(two)
        await two.until_ten()
        assert abs(one.ticks - two.ticks) <= 1
