"""The codec of Realtime translations: the service's own events as they are, and sound in events of their names."""

from collections.abc import Iterator

from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.base64_json import quoted_base64
from bridge.wire.client_events import ClientMessage
from bridge.wire.codecs.codec import EncodedEvent, Opening, PartOfAnswer
from bridge.wire.codecs.ga import GA
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent, encode
from bridge.wire.stats import Dialect
from bridge.wire.translations import APPEND, CLOSED, OUTPUT_AUDIO_DELTA, read_translation_message

__all__ = ["TranslationCodec"]

_OF_REALTIME = ("response.", "conversation.", "input_audio_buffer.", "output_audio_buffer.", "rate_limits.")
_HEADS = {
    "input": (b'{"type":"%b","event_id":"' % APPEND.encode(), b'"audio":'),
    "output": (b'{"type":"%b","event_id":"' % OUTPUT_AUDIO_DELTA.encode(), b'"delta":'),
}
_PCM16_FIELDS = b'"sample_rate":24000,"channels":1,"format":"pcm16",'


class _Sound:
    name = "translation"

    def writer(self, track: str, audio_format: AudioFormat, prefix: str, part: PartOfAnswer | None) -> "_Writer":
        """Returns a writer for one stream; a translation's sound has no parts."""
        return _Writer(track, audio_format, prefix)


class _Writer:
    """Writes one stream; both tracks are of the present moment, because the service speaks in real time."""

    def __init__(self, track: str, audio_format: AudioFormat, prefix: str) -> None:
        self._head, self._sound = _HEADS[track]
        self._tells_elapsed = track == "output" and not audio_format.is_compressed
        self._is_compressed = audio_format.is_compressed
        self._fields = _PCM16_FIELDS if self._tells_elapsed and audio_format is PCM16 else b""
        self._samples_per_ms = audio_format.rate_hz // 1000
        self._prefix = prefix
        self._id_head = prefix.encode()

    def encode_sound(self, number: int, timestamp: int, sound: bytes, audio_ms: int) -> EncodedMessage:
        """Returns one event with its sound."""
        fields = b'",'
        if self._tells_elapsed:
            fields += b'"elapsed_ms":%d,%b' % (timestamp // self._samples_per_ms, self._fields)
        elif self._is_compressed:
            fields += b'"timestamp":%d,' % timestamp
        pieces = (self._head, self._id_head, b"%d" % number, fields, self._sound, quoted_base64(sound), b"}")
        return EncodedMessage.of(pieces, event_id=f"{self._prefix}{number}", audio_ms=audio_ms)


_SOUND = _Sound()


class TranslationCodec:
    """The codec for all clients of one translation. It remembers whether they know that the translation is over."""

    dialect = Dialect.TRANSLATION

    def __init__(self) -> None:
        self._is_closed = False

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """Yields the session's event."""
        yield from GA.opening(opening)

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """Returns an event of the service as it is; None for what only sessions with answers have."""
        kind = str(event["type"]) if isinstance(event, dict) else event.type
        if kind.startswith(_OF_REALTIME):
            return None
        if kind == CLOSED:
            self._is_closed = True
        return EncodedEvent(kind, encode(event))

    def decode(self, text: bytes | str) -> ClientMessage:
        """Returns what a client means; raises ``BadEvent``, which names the field."""
        return read_translation_message(text)

    def refused(self, message: ClientMessage) -> None:
        """Does nothing, because nothing is remembered of clients' events."""

    def farewell(self) -> Body | None:
        """Returns ``session.closed``, unless the service itself has said so."""
        return None if self._is_closed else {"type": CLOSED}

    def sound(self, track: str) -> _Sound:
        """Returns how sound is written."""
        return _SOUND
