"""A telephone call to the bridge, as a carrier brings it: for trying the endpoints without an account, and for tests.

``dial`` connects a carrier; ``Phone`` is what the caller holds: 20 ms of sound go in and come out at each ``tick``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.client.carriers.contract import SimulatedCarrier
from bridge.client.carriers.dialling import Dialling, Wire
from bridge.client.carriers.table import connect_carrier

__all__ = ["Phone", "dial"]


class Phone:
    """A call that is up. ``read`` runs beside it and ends with it."""

    def __init__(self, carrier: SimulatedCarrier, wire: Wire) -> None:
        self.carrier = carrier
        self.wire = wire
        self.messages = 0
        """That came from the bridge."""
        self.ended = asyncio.Event()
        """The bridge hung up, or the line is down."""
        self.on_message: Callable[[str | bytes], None] | None = None

    async def read(self) -> None:
        """Takes what the bridge says, and answers it."""
        while (message := await self.wire.receive()) is not None:
            self.messages += 1
            if self.on_message is not None:
                self.on_message(message)
            await self.wire.send(self.carrier.receive(message))
            if self.carrier.has_hung_up:
                break
        self.ended.set()
        await self.wire.close()

    async def tick(self, sound: bytes) -> bytes:
        """20 ms pass: ``sound`` is what the caller says, in the carrier's format; returns what the caller hears."""
        heard, said = self.carrier.play()
        await self.wire.send([*self.carrier.speak(sound), *said])
        return heard

    async def press(self, key: str) -> None:
        """The caller presses a key."""
        await self.wire.send(self.carrier.press(key))

    async def hang_up(self) -> None:
        """The caller hangs up."""
        await self.wire.send(self.carrier.hang_up())
        await self.wire.close()


@asynccontextmanager
async def dial(dialling: Dialling) -> AsyncIterator[Phone]:
    """A call, up and hung up at the end of the block; raises ``CallFailed``."""
    carrier, wire = await connect_carrier(dialling)
    phone = Phone(carrier, wire)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(phone.read())
        try:
            await wire.send(carrier.start())
            yield phone
        finally:
            await phone.hang_up()
            await reading
