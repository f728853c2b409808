"""One track of a session's sound in one format: converted once, written as events once, for all who asked for it."""

from binascii import b2a_base64

from bridge.media.convert import SoundEncoder
from bridge.media.playback import Part
from bridge.session.hub import Listener
from bridge.wire.audio import AudioFormat
from bridge.wire.message import Message

__all__ = ["SoundStream"]


_APPEND = b'{"type":"input_audio_buffer.append","event_id":"'
_DELTA = b'{"type":"response.output_audio.delta","event_id":"'
_BETA_DELTA = b'{"type":"response.audio.delta","event_id":"'


class SoundStream:
    """The listeners of one track in one format, and the events that they get.

    Events of a stream are numbered from 1 without a gap in their ``event_id``, so that a listener can tell what it has
    missed. The JSON is written by hand from prefix, number and base64: this is the hot path.
    """

    def __init__(self, audio_format: AudioFormat, *, event_prefix: str) -> None:
        self.listeners: list[Listener] = []
        self._format = audio_format
        self._encoder = SoundEncoder(audio_format)
        self._event_prefix = event_prefix.encode()
        self._number = 0
        self._part: Part | None = None
        self._delta_head = b""

    def append(self, pcm: bytes) -> None:
        """The caller's sound, as ``input_audio_buffer.append``."""
        sound = self._encoder.push(pcm)
        if sound:
            self._send(_APPEND, b'","audio":"', sound)

    def delta(self, part: Part, pcm: bytes) -> None:
        """The answer's sound, as ``response.output_audio.delta``; to beta listeners ``response.audio.delta``."""
        if part != self._part:
            self.end()
            self._part = part
            self._delta_head = (
                f'","response_id":"{part.response_id}","item_id":"{part.item_id}","output_index":{part.output_index}'
                f',"content_index":{part.content_index},"delta":"'
            ).encode()
        self._send_delta(self._encoder.push(pcm))

    def end(self) -> None:
        """The part is complete: what the resampler held back goes out."""
        if self._part is not None:
            self._send_delta(self._encoder.flush())
            self._part = None

    def _send_delta(self, sound: bytes) -> None:
        if sound:
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
