"""Makes a recorded call again: sends its sound and its events in real time, and keeps what the server says."""

import asyncio
from typing import Any

from bridge.client.address import CallFailed, parse_address
from bridge.client.call import Plan
from bridge.client.change_signal import ChangeSignal
from bridge.client.lines import ClientLine, ClientWebRtcLine, SocketLine
from bridge.client.replay.recording import Recorded, TimedEvent
from bridge.client.sound import BYTES_PER_MS

__all__ = ["ReplayedCall"]

_PATIENCE_S = 60.0
_SETTLED_S = 2.0  # without an event, once all answers are done
_MOST_EVENTS = 1_000_000
_KEPT_IDS = 10_000


class ReplayedCall:
    """One call. ``run`` makes it, once; the events are there also after a failure.

    The server gives new ids. If a recorded event names an item or a function call, the new one at the same place in the
    order is named instead.
    """

    def __init__(self, recorded: Recorded, plan: Plan, *, patience_s: float = _PATIENCE_S) -> None:
        """``plan`` says where and how; what is said is in the recording. Raises ``CallFailed`` if the URL is none."""
        self.events: list[TimedEvent] = []
        self._recorded = recorded
        self._plan = plan
        self._address = parse_address(plan.url, plan.model or recorded.model)
        self._line: ClientLine = ClientWebRtcLine(self) if plan.transport == "webrtc" else SocketLine(self)
        self._patience_s = patience_s
        self._changes = ChangeSignal()
        self._began = self._now_at = 0.0
        self._active = 0
        self._has_spoken = False
        self._lost = ""

    async def run(self) -> list[TimedEvent]:
        """Makes the call, to the end of the last answer, and returns what the server said.

        Raises ``CallFailed`` if the call cannot be made, breaks off, or takes longer than the recording and the
        patience.
        """
        recorded = self._recorded
        sound_s = len(recorded.pcm) / BYTES_PER_MS / 1000
        self._began = self._now()
        try:
            async with self._line.open(self._address, self._plan.api_key, sound_s=sound_s):
                self._began = self._now()
                async with asyncio.timeout(sound_s + self._patience_s), asyncio.TaskGroup() as tasks:
                    workers = [
                        tasks.create_task(self._line.read()),
                        tasks.create_task(self._line.play_caller_audio(recorded.pcm, b"")),
                        acting := tasks.create_task(self._act()),
                    ]
                    await self._changes.until(lambda: bool(self._lost) or (acting.done() and self._is_over()))
                    for worker in workers:
                        worker.cancel()
        except TimeoutError:
            raise CallFailed(f"The call was not over {self._patience_s:g} s after the recording's end.") from None
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if self._lost:
            raise CallFailed(self._lost)
        return self.events

    async def _act(self) -> None:
        """Sends what the client sent, each when it was sent."""
        for act in self._recorded.acts:
            await asyncio.sleep(self._began + act.at_ms / 1000 - self._now())
            await self._line.send_client_event(self._renamed(act.event))

    def _renamed(self, event: dict[str, Any]) -> dict[str, Any]:
        """Returns the event with the ids of this call in place of the recorded ones."""
        ours = dict(zip(_ids(self._recorded.events), _ids(self.events), strict=False))

        def renamed(value: Any) -> Any:
            match value:
                case str():
                    return ours.get(value, value)
                case dict():
                    return {name: renamed(inner) for name, inner in value.items()}
                case list():
                    return [renamed(inner) for inner in value]
            return value

        found: dict[str, Any] = renamed(event)
        return found

    def _is_over(self) -> bool:
        is_done = self._has_spoken and self._active == 0
        return is_done and self._now() - max(self._now_at, self._began) > _SETTLED_S

    # The line's reports

    def receive_event(self, event: dict[str, Any]) -> None:
        """Takes a server event."""
        self._now_at = self._now()
        if len(self.events) < _MOST_EVENTS:
            self.events.append(TimedEvent(round(1000 * (self._now_at - self._began)), event))
        kind = event["type"]
        if kind in ("response.created", "input_audio_buffer.speech_started", "output_audio_buffer.started"):
            self._active += 1
        elif kind in ("response.done", "input_audio_buffer.speech_stopped"):
            self._active = max(0, self._active - 1)
        elif kind in ("output_audio_buffer.stopped", "output_audio_buffer.cleared"):
            self._active = max(0, self._active - 1)
        self._changes.notify()

    def receive_audio(self, pcm: bytes) -> None:
        """Does nothing: what an answer says is in its transcript."""

    def speaking(self, spoken_ms: int) -> None:
        """Does nothing, because nobody looks on."""

    def spoken(self) -> None:
        """Notes that the recorded sound has been sent."""
        self._has_spoken = True
        self._changes.notify()

    def wants_silence(self) -> bool:
        """Returns that the server still has to hear silence, by which it finds the end of the last turn."""
        return True

    def line_lost(self, message: str, code: str) -> None:
        """Notes that the line is down."""
        self._lost = message
        self._changes.notify()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _ids(events: Any) -> list[str]:
    """Returns the ids of items and of calls of functions, in the order in which they first came."""
    found: dict[str, None] = {}
    for each in events:
        item = each.event.get("item")
        if isinstance(item, dict) and each.kind in ("conversation.item.added", "response.output_item.done"):
            for name in ("id", "call_id"):
                if isinstance(item.get(name), str) and len(found) < _KEPT_IDS:
                    found.setdefault(item[name])
    return list(found)
