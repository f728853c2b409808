"""A telephone call to the bridge, as a carrier brings it: to try the endpoints without an account, and for tests.

``dial`` connects a carrier. ``Phone`` is what the caller holds: at each ``tick``, 20 ms of sound go in and come out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.client.carriers.contract import SimulatedCarrier
from bridge.client.carriers.dialling import Dialling, Wire
from bridge.client.carriers.table import connect_carrier

__all__ = ["Phone", "dial"]


class Phone:
    """A telephone call that is up. ``read`` runs beside it and ends with it."""

    def __init__(self, carrier: SimulatedCarrier, wire: Wire) -> None:
        self.carrier = carrier
        self.wire = wire
        self.messages = 0
        """The number of messages that came from the bridge."""
        self.ended = asyncio.Event()
        """Is set as soon as the bridge has hung up, or the line is down."""
        self.on_message: Callable[[str | bytes], None] | None = None

    async def read(self) -> None:
        """Takes what the bridge says, and answers it."""
        while (message := await self.wire.receive_message()) is not None:
            self.messages += 1
            if self.on_message is not None:
                self.on_message(message)
            await self.wire.send_messages(self.carrier.receive_bridge_message(message))
            if self.carrier.has_hung_up:
                break
        self.ended.set()
        await self.wire.close()

    async def tick(self, sound: bytes) -> bytes:
        """Lets 20 ms pass, and returns what the caller hears.

        ``sound`` is what the caller says, in the carrier's format.
        """
        heard, said = self.carrier.play_frame()
        await self.wire.send_messages([*self.carrier.audio_messages(sound), *said])
        return heard

    async def press(self, key: str) -> None:
        """Presses a key on the caller's telephone."""
        await self.wire.send_messages(self.carrier.key_messages(key))

    async def hang_up(self) -> None:
        """Hangs up, as the caller does."""
        await self.wire.send_messages(self.carrier.hang_up_messages())
        await self.wire.close()


@asynccontextmanager
async def dial(dialling: Dialling) -> AsyncIterator[Phone]:
    """Opens a call, and hangs it up at the end of the block; raises ``CallFailed``."""
    carrier, wire = await connect_carrier(dialling)
    phone = Phone(carrier, wire)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(phone.read())
        try:
            await wire.send_messages(carrier.opening_messages())
            yield phone
        finally:
            await phone.hang_up()
            await reading
