"""A plain WebSocket listener beside a call, which finds how much of the caller's and the answer's sound reaches it.

The bridge numbers the sound events of a stream at the end of their ``event_id``, so a gap shows that something was
lost.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed

from bridge.client.address import CallFailed
from bridge.client.lines import open_socket
from bridge.client.sound import BYTES_PER_MS

__all__ = ["HeardSound", "Listening"]

_NUMBERED = re.compile(r"(.+_)(\d+)\Z")
_TRACKS = {
    "input_audio_buffer.append": "audio",
    "response.output_audio.delta": "delta",
    "response.audio.delta": "delta",
}


@dataclass(slots=True)
class HeardSound:
    """The sound that a listener got."""

    append_events: int = 0
    append_ms: int = 0
    """How much of the caller's sound, in milliseconds."""
    delta_events: int = 0
    delta_ms: int = 0
    """How much of the answer's sound, in milliseconds."""
    events: int = 0
    """The number of all events."""
    missing: int = 0
    """The number of sound events that never came, by the numbers in their ids."""
    note: str = ""
    """Why there is nothing to say about the sound; empty if there is."""


class Listening:
    """A listener. ``run`` listens until it is cancelled; ``is_settled`` is set as soon as it hears, or cannot."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.heard = HeardSound()
        self.is_settled = asyncio.Event()
        self._url = url
        self._api_key = api_key
        self._last: dict[str, int] = {}

    async def run(self) -> None:
        """Attaches and counts. If something goes wrong, it leaves a note, and the call goes on."""
        try:
            async with await open_socket(self._url, self._api_key) as socket:
                async for text in socket:
                    self.count_event(json.loads(text))
                    self.is_settled.set()
        except CallFailed as failure:
            self.heard.note = f"no listener could be attached: {failure.message}"
        except (ConnectionClosed, ValueError) as error:
            self.heard.note = f"cut off: {error}"
        finally:
            self.is_settled.set()

    def count_event(self, event: dict[str, Any]) -> None:
        """Counts an event."""
        heard = self.heard
        heard.events += 1
        name = _TRACKS.get(str(event.get("type")))
        if name is None:
            return
        ms = len(str(event.get(name, ""))) * 3 // 4 // BYTES_PER_MS
        if name == "audio":
            heard.append_events, heard.append_ms = heard.append_events + 1, heard.append_ms + ms
        else:
            heard.delta_events, heard.delta_ms = heard.delta_events + 1, heard.delta_ms + ms
        if numbered := _NUMBERED.match(str(event.get("event_id", ""))):
            stream, number = numbered[1], int(numbered[2])
            heard.missing += number - self._last.get(stream, number - 1) - 1
            self._last[stream] = number
