"""What the caller hears of a session whose answer is one endless stream in real time, as that of a translation is."""

import asyncio
from collections.abc import Callable

from bridge.media.playback import Marked, Part, Played
from bridge.session.playback_controller import PlaybackController
from bridge.wire import server_events as server
from bridge.wire.ids import new_id

__all__ = ["StreamPlayback"]

_MAX_WAITING_MS = 30_000
_FINISH_MARGIN_S = 2.0


class StreamPlayback(PlaybackController):
    """Plays one stream: nothing waits for a turn, nothing is cut in a conversation, and too much is left out.

    If more than half a minute waits to be heard, the rest is dropped until there is room, and clients are told once.
    """

    _finish_id = ""
    _on_finished: Callable[[], None] | None = None
    _is_behind = False

    def play(self, part: Part, sound: bytes) -> None:
        """Plays a piece of the stream, unless too much waits already."""
        leg = self.leg
        if leg is None:
            return
        limit = _MAX_WAITING_MS * leg.output_format.bytes_per_ms
        is_behind = leg.waiting_bytes + len(sound) > limit or not leg.play(part, sound)
        if is_behind and not self._is_behind:
            message = "Too much sound is waiting to be heard: some of it was dropped."
            self._hub.publish(server.Error(error=server.ErrorDetail(
                type="server_error", code="playback_too_long", message=message)))  # fmt: skip
        self._is_behind = is_behind
        self._settle()

    def clear(self, *, is_taken_back: bool = False) -> None:
        """Drops what was not heard yet; the stream goes on with what comes next."""
        cut = None if self.leg is None else self.leg.clear()
        self._settle()
        for mark_id in tuple(self._marks):
            self._answer_mark(mark_id, "cleared")
        if cut is not None:
            self.is_sounding = False
            self._hub.publish(server.OutputAudioBufferCleared(response_id=cut[0]))
        self._finish()

    def played(self, event: Played) -> None:
        """Takes an event of the leg's ledger."""
        if isinstance(event, Marked) and event.mark_id == self._finish_id:
            self._finish()
        else:
            super().played(event)

    def finish(self, done: Callable[[], None]) -> None:
        """Calls ``done`` when all that is queued has been heard, or should have been; nothing more comes."""
        self._on_finished, self._finish_id = done, new_id("mark")
        leg = self.leg
        if leg is None or leg.mark(self._finish_id):
            self._finish()
            return
        left_s = leg.waiting_bytes / leg.output_format.bytes_per_ms / 1000
        asyncio.get_running_loop().call_later(left_s + _FINISH_MARGIN_S, self._finish)

    def _finish(self) -> None:
        done, self._on_finished = self._on_finished, None
        if done is not None:
            done()
