"""A session's sound: two tracks, each pushed in one format and wanted in several, each made once.

    leg or owner ──▶ input track ──▶ listeners' streams, then the upstream
    upstream ──▶ output track ──▶ listeners' streams, then the leg

Where nobody wants another format than the one that comes, bytes pass through as they are.
"""

import binascii
from binascii import b2a_base64
from collections.abc import Callable, Iterator

from bridge.errors import BadEvent
from bridge.media.convert import SoundConverter
from bridge.media.playback import Part
from bridge.session.hub import Listener
from bridge.session.roles import Leg, Upstream
from bridge.session.state import SessionState
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.client_events import InputAudioBufferAppend
from bridge.wire.message import Message
from bridge.wire.sessions import format_of

__all__ = ["Sound", "SoundStream", "Track"]

_MAX_APPEND_CHARS = 20 * 1024 * 1024  # 15 MiB as base64
_APPEND = b'{"type":"input_audio_buffer.append","event_id":"'
_DELTA = b'{"type":"response.output_audio.delta","event_id":"'
_BETA_DELTA = b'{"type":"response.audio.delta","event_id":"'


class Sound:
    """Both tracks, between those who bring sound and those who take it."""

    def __init__(self, session_id: str, upstream: Upstream, *, play: Callable[[Part, bytes], None]) -> None:
        prefix = f"event_{session_id.rpartition('_')[2][:12]}_"
        self._upstream = upstream
        self._play = play
        self._leg: Leg | None = None
        self._owner: Listener | None = None
        self._inbound = PCM16
        """The owner's, where there is no leg."""
        self._input = Track(f"{prefix}input_")
        self._output = Track(f"{prefix}output_")

    def attach_leg(self, leg: Leg) -> None:
        """The caller's sound comes from ``leg``, and the answer's goes there."""
        self._leg = leg

    def follow_owner(self, owner: Listener, state: SessionState) -> None:
        """An owner's sound travels in the session's formats, which it may change at any time."""
        self._inbound = format_of(state.input.format)
        outbound = format_of(state.output.format)
        if owner.audio != outbound.name:
            self._output.leave(owner)
            self._output.join(owner, outbound)
            owner.audio = outbound.name

    def join(self, listener: Listener, audio_format: AudioFormat) -> None:
        """From now on ``listener`` hears both tracks."""
        listener.audio = audio_format.name
        for track in (self._input, self._output):
            track.join(listener, audio_format)

    def leave(self, listener: Listener) -> None:
        """It hears nothing any more; may be called twice."""
        for track in (self._input, self._output):
            track.leave(listener)

    def receive(self, sound: bytes) -> None:
        """The caller's, in the leg's format or in the owner's."""
        upstream = self._upstream
        source = self._inbound if self._leg is None else self._leg.audio_format
        self._input.follow(source, upstream.input_format)
        upstream.receive_audio(self._input.push(sound))

    def append(self, event: InputAudioBufferAppend) -> Iterator[bytes]:
        """The caller's sound in an event of the owner, a second at a time; raises ``BadEvent``."""
        if self._leg is not None:
            raise BadEvent("The caller's sound comes over WebRTC; this call takes no append events.", param="type")
        if len(event.audio) > _MAX_APPEND_CHARS:
            raise BadEvent("An append may carry 15 MiB at most.", param="audio", code="event_too_large")
        try:
            sound = binascii.a2b_base64(event.audio, strict_mode=True)
        except (binascii.Error, ValueError):
            raise BadEvent("'audio' is not valid base64.", param="audio", code="invalid_audio") from None
        if len(sound) % self._inbound.bytes_per_sample:
            raise BadEvent("'audio' ends in the middle of a sample.", param="audio", code="invalid_audio")
        piece_bytes = self._inbound.bytes_per_ms * 1000
        for at in range(0, len(sound), piece_bytes):
            yield sound[at : at + piece_bytes]

    def deliver(self, part: Part, sound: bytes) -> None:
        """The answer's, in the upstream's format: to listeners at once, to the leg at the caller's pace."""
        leg_format = None if self._leg is None else self._leg.audio_format
        if part != self._output.part:
            self.end_output()
            self._output.part = part
        self._output.follow(self._upstream.output_format, leg_format)
        self._to_leg(self._output.push(sound))

    def end_output(self) -> None:
        """The part is complete: what the resamplers held back goes out."""
        self._to_leg(self._output.end())

    def _to_leg(self, sound: bytes) -> None:
        if sound and self._leg is not None and self._output.part is not None:
            self._play(self._output.part, sound)


class Track:
    """One direction of a session's sound; ``follow`` says in which format it comes and in which one its taker wants it.

    Listeners are served first, so that they hear of sound before they hear what came of it.
    """

    def __init__(self, event_prefix: str) -> None:
        self.part: Part | None = None
        """Which part of which response the sound belongs to; None for the caller's."""
        self._event_prefix = event_prefix
        self._converter = SoundConverter(PCM16)
        self._taken: AudioFormat | None = None
        self._streams: dict[AudioFormat, SoundStream] = {}

    def follow(self, source: AudioFormat, taken: AudioFormat | None) -> None:
        """The formats, as they are from now on."""
        if source is self._converter.source and taken is self._taken:
            return
        if source is not self._converter.source:
            self._write(self._converter.flush())
            self._converter = SoundConverter(source)
            for audio_format in self._streams:
                self._converter.want(audio_format)
        if self._taken is not None and self._taken is not taken and self._taken not in self._streams:
            self._converter.leave_out(self._taken)
        self._taken = taken
        if taken is not None:
            self._converter.want(taken)

    def push(self, sound: bytes) -> bytes:
        """To every stream; returns what is due for the taker."""
        return self._write(self._converter.push(sound))

    def end(self) -> bytes:
        """What was held back of the sound so far, likewise."""
        return self._write(self._converter.flush())

    def join(self, listener: Listener, audio_format: AudioFormat) -> None:
        """From now on ``listener`` hears the track in this format."""
        stream = self._streams.get(audio_format)
        if stream is None:
            prefix = f"{self._event_prefix}{audio_format.name}_"
            stream = self._streams[audio_format] = SoundStream(audio_format, event_prefix=prefix)
            self._converter.want(audio_format)
        stream.listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """It hears nothing any more. Whoever listens next to a stream that nobody heard begins at 1."""
        for audio_format, stream in tuple(self._streams.items()):
            if listener in stream.listeners:
                stream.listeners.remove(listener)
                if not stream.listeners:
                    del self._streams[audio_format]
                    if audio_format is not self._taken:
                        self._converter.leave_out(audio_format)

    def _write(self, made: dict[AudioFormat, bytes]) -> bytes:
        for audio_format, stream in tuple(self._streams.items()):
            stream.write(self.part, made[audio_format])
        return b"" if self._taken is None else made[self._taken]


class SoundStream:
    """The listeners of one track in one format, and the events that they get.

    Events of a stream are numbered from 1 without a gap in their ``event_id``, so that a listener can tell what it has
    missed. The JSON is written by hand from prefix, number and base64: this is the hot path.
    """

    def __init__(self, audio_format: AudioFormat, *, event_prefix: str) -> None:
        self.listeners: list[Listener] = []
        self._format = audio_format
        self._event_prefix = event_prefix.encode()
        self._number = 0
        self._part: Part | None = None
        self._delta_head = b""

    def write(self, part: Part | None, sound: bytes) -> None:
        """The caller's sound as ``input_audio_buffer.append``; a part of the answer's as ``…audio.delta``."""
        if not sound:
            return
        if part is None:
            self._send(_APPEND, b'","audio":"', sound)
            return
        if part != self._part:
            self._part = part
            self._delta_head = (
                f'","response_id":"{part.response_id}","item_id":"{part.item_id}","output_index":{part.output_index}'
                f',"content_index":{part.content_index},"delta":"'
            ).encode()
        self._send(_DELTA, self._delta_head, sound, beta_head=_BETA_DELTA)

    def _send(self, head: bytes, middle: bytes, sound: bytes, *, beta_head: bytes = b"") -> None:
        self._number += 1
        tail = b"".join((self._event_prefix, b"%d" % self._number, middle, b2a_base64(sound, newline=False), b'"}'))
        audio_ms = max(1, len(sound) // self._format.bytes_per_ms)
        message = Message(head + tail, audio_ms=audio_ms, is_live=not beta_head)
        in_beta = None
        for listener in tuple(self.listeners):
            if listener.is_beta and beta_head:
                if in_beta is None:
                    in_beta = Message(beta_head + tail, audio_ms=audio_ms)
                listener.deliver(in_beta)
            else:
                listener.deliver(message)
