"""The events that a client got, in order; a test waits for the one it needs."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

from tests.machine import scaled

Event = dict[str, Any]

_LIMIT_S = scaled(15.0)


class EventLog:
    """Everything that came, and waits on it that end soon either way."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def add(self, text: str | bytes) -> None:
        """Takes one message."""
        self.events.append(json.loads(text))
        self._news.set()

    @property
    def types(self) -> list[str]:
        """The names of the events, in order."""
        return [event["type"] for event in self.events]

    def of(self, *types: str) -> list[Event]:
        """The events of these types, in order."""
        return [event for event in self.events if event["type"] in types]

    async def until(self, event_type: str, *, number: int = 1) -> Event:
        """The first event of this type, or the ``number``-th."""
        await self.wait(lambda: len(self.of(event_type)) >= number, f"{event_type} number {number}")
        return self.of(event_type)[number - 1]

    async def wait(self, has_come: Callable[[], bool], what: str) -> None:
        """Returns as soon as ``has_come`` says so; asked again at every event."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not has_come():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} within {_LIMIT_S:g} s; came: {self.types[-30:]}") from None


def inbound_sound(events: list[Event]) -> bytes:
    """What the append events carry, one after the other."""
    return b"".join(base64.b64decode(e["audio"]) for e in events if e["type"] == "input_audio_buffer.append")


def outbound_sound(events: list[Event]) -> bytes:
    """What the answer's deltas carry, one after the other."""
    return b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")


def stream_numbers(events: list[Event]) -> list[int]:
    """The numbers in which the event ids of one sound stream end."""
    prefixes = {e["event_id"].rpartition("_")[0] for e in events}
    assert len(prefixes) <= 1, f"events of several streams: {prefixes}"
    return [int(e["event_id"].rpartition("_")[2]) for e in events]
