"""One track of a session's sound as one kind of listener wants it: cut, numbered and written once for all."""

from binascii import b2a_base64

from bridge.media.playback import Part
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.replay import Replay
from bridge.wire.audio import AudioFormat
from bridge.wire.binary import pack_sound
from bridge.wire.message import EncodedMessage

__all__ = ["SoundStream", "StreamKind"]

StreamKind = tuple[AudioFormat, tuple[int, str] | None, str]
"""Format, bytes and name of a chunk (None: as sound comes) and how it is written: ``json``, ``beta`` or ``binary``.

``typed`` stands for consumers inside the process, for whom nothing is written.
"""

_MIDDLE = b'","audio":"'
_APPEND = b'{"type":"input_audio_buffer.append","event_id":"'
_DELTA = b'{"type":"response.output_audio.delta","event_id":"'
_BETA_DELTA = b'{"type":"response.audio.delta","event_id":"'


class SoundStream:
    """The listeners of one track that want it alike, and the messages that they get.

    Messages of a stream are numbered without a gap, so that a listener can tell what it has missed; the ids of its
    events are ``prefix`` and that number. The JSON is written by hand: this is the hot path.
    """

    def __init__(self, track: str, kind: StreamKind, *, replay: Replay, number: int, heard_samples: int) -> None:
        self.listeners: list[Listener] = []
        self.number = number
        """Of the last message; ``heard_samples`` of the track came before."""
        self.unheard_ms = 0
        """How much sound came since the last listener left."""
        self.format, chunk, self._framing = kind
        self._is_compressed = self.format.is_compressed
        self.prefix = f"{replay.prefix}{track}_{self.format.name}_"
        if chunk is not None:
            self.prefix += f"{chunk[1]}_"
        if self._framing != "json":
            self.prefix += f"{self._framing}_"
        self._id_head = self.prefix.encode()
        self._track = track
        self._replay = replay
        self._chunk_bytes = None if chunk is None else chunk[0]
        self._chunk = bytearray()
        self._timestamp = heard_samples
        self._part: Part | None = None
        self._head, self._middle = _APPEND, _MIDDLE

    @property
    def is_heard(self) -> bool:
        """Somebody listens."""
        return bool(self.listeners)

    def write(self, part: Part | None, sound: bytes) -> None:
        """More sound: the caller's, or a part of the answer's."""
        if part != self._part:
            self.end()
            self._begin(part)
        size = self._chunk_bytes
        if size is None:
            if sound:
                self._send(sound, len(sound) // self.format.bytes_per_sample)
            return
        chunk = self._chunk
        chunk += sound
        while len(chunk) >= size:
            self._send(bytes(chunk[:size]), size // self.format.bytes_per_sample)
            del chunk[:size]

    def write_packet(self, part: Part | None, packet: bytes, timestamp: int, samples: int) -> None:
        """One packet of compressed sound: ``samples`` of it, ``timestamp`` samples after the track's beginning.

        A packet of no bytes stands for what was lost.
        """
        if part != self._part:
            self._begin(part)
        self._timestamp = timestamp
        self._send(packet, samples)

    def end(self) -> None:
        """What is left makes a shorter chunk."""
        if self._chunk:
            self._send(bytes(self._chunk), len(self._chunk) // self.format.bytes_per_sample)
            self._chunk.clear()

    def _begin(self, part: Part | None) -> None:
        self._part = part
        if part is not None:
            self._head = _BETA_DELTA if self._framing == "beta" else _DELTA
            self._middle = (
                f'","response_id":"{part.response_id}","item_id":"{part.item_id}","output_index":{part.output_index}'
                f',"content_index":{part.content_index},"delta":"'
            ).encode()

    def _send(self, sound: bytes, samples: int) -> None:
        self.number += 1
        is_live = self._part is None
        event_id = f"{self.prefix}{self.number}"
        audio_ms = max(1, samples * 1000 // self.format.rate_hz)
        if self._framing == "binary":
            payload = pack_sound(self._track, self.format, self.number, self._timestamp, sound)
            message = EncodedMessage(payload, event_id=event_id, audio_ms=audio_ms, is_live=is_live, is_binary=True)
        else:
            number, base64 = b"%d" % self.number, b2a_base64(sound, newline=False)
            middle = self._middle
            if self._is_compressed:
                middle = b'","timestamp":%d,' % self._timestamp + middle[2:]
            pieces = (self._head, self._id_head, number, middle, base64, b'"}')
            message = EncodedMessage.of(pieces, event_id=event_id, audio_ms=audio_ms, is_live=is_live)
        self._timestamp += samples
        self._replay.keep_sound(self.prefix, self.number, message)
        if self.listeners:
            for listener in tuple(self.listeners):
                listener.deliver(message)
        else:
            self.unheard_ms += audio_ms
