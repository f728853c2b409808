"""Which part of which response a track's sound is, where the sound comes without names: an answer over WebRTC.

A service announces a part on its data channel, plays it in real time on its track, and says that it is done long before
it has been heard. Here the sound gets its names back, and what says that it is over waits until it is:

    content_part.added (audio) ──first audible frame, or output_audio_buffer.started──▶ sounding
    sounding ──output_audio_buffer.stopped or cleared; without them, done and silent for a while──▶ over
"""

from typing import Any

import numpy as np

from bridge.media.playback import Part
from bridge.wire.server_events import Body

__all__ = ["HeardAnswer"]

_AUDIBLE = 100  # of 32768: an Opus decoder's silence is below
_ONSET_MS = 60  # of what was played before it was known to be an answer: speech does not begin with a bang
_QUIET_S = 0.6  # without buffer events: a pause longer than that, behind the last event, is the end
_TAIL_S = 0.2  # between the word that it is over and the last packet
_NO_SOUND_S = 3.0  # an answer whose sound never comes is over
_BYTES_PER_MS = 48


class HeardAnswer:
    """``receive_event`` and ``receive_audio`` take what comes; what is due comes back from them and from ``poll``."""

    def __init__(self) -> None:
        self._part: Part | None = None
        self._is_sounding = self._is_started = False
        self._has_buffer_events = False
        self._is_done = False
        self._held: list[Body] = []
        self._over_at: float | None = None
        self._audible_at = 0.0
        self._onset = b""

    def receive_event(self, body: Body, now: float) -> list[Body]:
        """Takes an event; returns the events that are due now, in order."""
        kind = body["type"]
        if kind == "response.content_part.added" and _is_audio(body):
            onset = b"" if self._part is not None else self._onset
            due = self._finish()
            self._part, self._onset = _part(body), onset
            self._is_done, self._audible_at = False, now
            return [*due, body]
        if kind.startswith("output_audio_buffer."):
            self._has_buffer_events = True
            return self._buffer_event(kind, body, now)
        if self._part is not None and _concerns(body, self._part):
            if kind in ("response.output_audio.done", "response.done"):
                self._is_done = True
            if self._is_done:
                self._held.append(body)
                return []
        return [body]

    def receive_audio(self, pcm: bytes, now: float) -> tuple[Part, bytes] | None:
        """Takes sound of the track, PCM16 24 kHz mono; returns it with its part if it belongs to an answer."""
        if self._part is None:
            self._onset = (self._onset + pcm)[-_ONSET_MS * _BYTES_PER_MS :]
            return None
        is_audible = _is_audible(pcm)
        if is_audible:
            self._audible_at = now
        if not self._is_sounding:
            if not is_audible:
                self._onset = (self._onset + pcm)[-_ONSET_MS * _BYTES_PER_MS :]
                return None
            self._is_sounding = True
            pcm, self._onset = self._onset + pcm, b""
        return self._part, pcm

    @property
    def has_buffer_events(self) -> bool:
        """Whether the service says when it begins to play, so that the sound need not be decoded to find out."""
        return self._has_buffer_events

    @property
    def playing_part(self) -> Part | None:
        """The part that the service plays, as it says itself."""
        return self._part if self._is_started else None

    @property
    def is_held(self) -> bool:
        """Whether events are held, so that ``poll`` may return them."""
        return self._part is not None and bool(self._held)

    def poll(self, now: float) -> list[Body]:
        """Returns what has become due by time alone."""
        if not self.is_held:
            return []
        if self._over_at is not None:
            return self._finish() if now >= self._over_at else []
        if not (self._is_sounding or self._is_started):
            return self._finish() if now - self._audible_at >= _NO_SOUND_S else []
        if not self._has_buffer_events and now - self._audible_at >= _QUIET_S:
            return self._finish()
        return []

    def end(self) -> list[Body]:
        """Returns what is left, because no more will come."""
        return self._finish()

    def _buffer_event(self, kind: str, body: Body, now: float) -> list[Body]:
        """Takes an event about the service's playback.

        Clients do not get it, because the session has a ledger of its own.
        """
        if self._part is None or body.get("response_id") != self._part.response_id:
            return []
        if kind == "output_audio_buffer.started":
            self._is_started = True
        if kind == "output_audio_buffer.cleared":
            self._is_done = True
            return self._finish()
        if kind == "output_audio_buffer.stopped":
            self._is_done = True
            self._over_at = now + _TAIL_S
        return []

    def _finish(self) -> list[Body]:
        due, self._held = self._held, []
        self._part = self._over_at = None
        self._is_sounding = self._is_started = self._is_done = False
        self._onset = b""
        return due


def _is_audio(body: Body) -> bool:
    part = body.get("part")
    return isinstance(part, dict) and part.get("type") == "audio"


def _part(body: Body) -> Part:
    return Part(
        str(body.get("response_id", "")),
        str(body.get("item_id", "")),
        _index(body.get("output_index")),
        _index(body.get("content_index")),
    )


def _index(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _concerns(body: Body, part: Part) -> bool:
    response, item = body.get("response"), body.get("item")
    return (
        body.get("response_id") == part.response_id
        or (isinstance(response, dict) and response.get("id") == part.response_id)
        or (isinstance(item, dict) and item.get("id") == part.item_id)
    )


def _is_audible(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2")
    return bool(samples.size) and int(np.abs(samples.astype(np.int32)).max()) >= _AUDIBLE
