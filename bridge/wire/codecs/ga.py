"""The codec of GA, which the bridge speaks inside.

Events are written as they are. Sound is written by hand, because it comes so often.
"""

from collections.abc import Iterator

from bridge.wire.audio import AudioFormat
from bridge.wire.base64_json import quoted_base64
from bridge.wire.client_events import ClientMessage, read_client_message
from bridge.wire.codecs.codec import EncodedEvent, Opening, PartOfAnswer
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent, SessionCreated, encode
from bridge.wire.stats import Dialect

__all__ = ["GA", "GaCodec", "JsonSound"]

_APPEND = b'{"type":"input_audio_buffer.append","event_id":"'
_LIVE_MIDDLE = b'","audio":'


class JsonSound:
    """Sound as base64 in JSON; an answer's sound is in events called ``delta_type``."""

    def __init__(self, name: str, delta_type: str) -> None:
        self.name = name
        self._delta_head = b'{"type":"%b","event_id":"' % delta_type.encode()

    def writer(self, track: str, audio_format: AudioFormat, prefix: str, part: PartOfAnswer | None) -> "_JsonWriter":
        """Returns a writer for one part of a stream."""
        return _JsonWriter(self._delta_head, audio_format, prefix, part)


class _JsonWriter:
    def __init__(self, delta_head: bytes, audio_format: AudioFormat, prefix: str, part: PartOfAnswer | None) -> None:
        self._is_compressed = audio_format.is_compressed
        self._prefix = prefix
        self._is_live = part is None
        self._head, self._middle = _APPEND + prefix.encode(), _LIVE_MIDDLE
        if part is not None:
            self._head = delta_head + prefix.encode()
            self._middle = (
                f'","response_id":"{part.response_id}","item_id":"{part.item_id}","output_index":{part.output_index}'
                f',"content_index":{part.content_index},"delta":'
            ).encode()

    def encode_sound(self, number: int, timestamp: int, sound: bytes, audio_ms: int) -> EncodedMessage:
        """Returns one event with its sound."""
        middle = self._middle
        if self._is_compressed:
            middle = b'","timestamp":%d,' % timestamp + middle[2:]
        pieces = (self._head, b"%d" % number, middle, quoted_base64(sound), b"}")
        return EncodedMessage.of(pieces, event_id=f"{self._prefix}{number}", audio_ms=audio_ms, is_live=self._is_live)


_SOUND = JsonSound("", "response.output_audio.delta")


class GaCodec:
    """The codec of GA. It has nothing to remember, so all calls share ``GA``."""

    dialect = Dialect.GA

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """Yields the session's event."""
        yield SessionCreated(session=opening.session), {"type": "session.created", "session": opening.body}

    def encode(self, event: ServerEvent | Body) -> EncodedEvent:
        """Returns the event as it is."""
        kind = event["type"] if isinstance(event, dict) else event.__struct_config__.tag
        return EncodedEvent(str(kind), encode(event))

    def decode(self, text: bytes | str) -> ClientMessage:
        """Reads the message as it is; raises ``BadEvent``."""
        return read_client_message(text)

    def refused(self, message: ClientMessage) -> None:
        """Does nothing, because nothing is remembered."""

    def farewell(self) -> Body | None:
        """Returns None: the close of the socket says enough."""
        return None

    def sound(self, track: str) -> JsonSound:
        """Returns the same way of writing for both tracks."""
        return _SOUND


GA = GaCodec()
