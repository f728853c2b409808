"""One track of a session's sound as one kind of listener wants it: cut, numbered and written once for all."""

from bridge.media.playback import Part
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.replay import Replay
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.wire.audio import AudioFormat
from bridge.wire.codecs.codec import SoundCodec

__all__ = ["SoundStream", "StreamKind", "SubscribedStream"]

StreamKind = tuple[AudioFormat, tuple[int, str] | None, SoundCodec | None]
"""Format, bytes and name of a chunk (None: as sound comes) and how it is written.

A codec of None stands for consumers inside the process, for whom nothing is written.
"""


class SoundStream:
    """The listeners of one track that want it alike, and the messages that they get.

    Messages of a stream are numbered without a gap, so that a listener can tell what it has missed; the ids of its
    events are ``prefix`` and that number.
    """

    def __init__(
        self,
        track: TrackName,
        audio_format: AudioFormat,
        chunk: tuple[int, str] | None,
        codec: SoundCodec,
        *,
        replay: Replay,
        number: int,
        heard_samples: int,
    ) -> None:
        self.listeners: list[Listener] = []
        self.number = number
        """The number of the last message; ``heard_samples`` of the track came before it."""
        self.unheard_ms = 0
        """How much sound has come since the last listener left."""
        self.format = audio_format
        self.prefix = f"{replay.prefix}{track}_{audio_format.name}_"
        if chunk is not None:
            self.prefix += f"{chunk[1]}_"
        if codec.name:
            self.prefix += f"{codec.name}_"
        self._track = track
        self._codec = codec
        self._writer = codec.writer(track, audio_format, self.prefix, None)
        self._replay = replay
        self._chunk_bytes = None if chunk is None else chunk[0]
        self._chunk = bytearray()
        self._timestamp = heard_samples
        self._part: Part | None = None

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self.listeners)

    def write_sound(self, part: Part | None, sound: bytes) -> None:
        """Takes more sound: the caller's, or a part of an answer's."""
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
        """Sends what is left as a shorter chunk."""
        if self._chunk:
            self._send(bytes(self._chunk), len(self._chunk) // self.format.bytes_per_sample)
            self._chunk.clear()

    def _begin(self, part: Part | None) -> None:
        self._part = part
        self._writer = self._codec.writer(self._track, self.format, self.prefix, part)

    def _send(self, sound: bytes, samples: int) -> None:
        self.number += 1
        audio_ms = max(1, samples * 1000 // self.format.rate_hz)
        self._replay.keep_sound(self.prefix, self.number, self._writer, self._timestamp, sound, audio_ms)
        if self.listeners:
            message = self._writer.encode_sound(self.number, self._timestamp, sound, audio_ms)
            for listener in tuple(self.listeners):
                listener.deliver(message)
        else:
            self.unheard_ms += audio_ms
        self._timestamp += samples


class SubscribedStream:
    """One track in one format for all consumers that want it so. Each piece goes out as it comes."""

    number = 0
    unheard_ms = 0

    def __init__(self, track: TrackName, audio_format: AudioFormat, *, heard_samples: int) -> None:
        self.format = audio_format
        self.subscriptions: list[Subscription] = []
        self._track = track
        self._timestamp = heard_samples

    @property
    def is_heard(self) -> bool:
        """Whether some consumer wants it."""
        return bool(self.subscriptions)

    def write_sound(self, part: object, sound: bytes) -> None:
        """Takes more sound of any part of any answer."""
        if sound:
            self._give(sound, self._timestamp, len(sound) // self.format.bytes_per_sample)

    def write_packet(self, part: object, packet: bytes, timestamp: int, samples: int) -> None:
        """Takes one packet of compressed sound, which has no bytes if it was lost."""
        self._give(packet, timestamp, samples)

    def end(self) -> None:
        """Does nothing, because no sound is held back."""

    def _give(self, sound: bytes, timestamp: int, samples: int) -> None:
        self._timestamp = timestamp + samples
        for subscription in tuple(self.subscriptions):
            subscription.sound(self._track, sound, timestamp)
