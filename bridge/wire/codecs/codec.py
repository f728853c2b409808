"""What a codec is: it stands between the bridge's events and sound, and what one kind of client reads and writes."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from bridge.wire.audio import AudioFormat
from bridge.wire.client_events import ClientMessage
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import Dialect

__all__ = ["Codec", "EncodedEvent", "Opening", "PartOfAnswer", "SoundCodec", "SoundWriter"]


class EncodedEvent(NamedTuple):
    """A server event as the clients of one dialect read it."""

    kind: str
    """The event's name in that dialect, by which clients choose events."""
    text: bytes


class PartOfAnswer(Protocol):
    """The part of a response that sound belongs to."""

    @property
    def response_id(self) -> str:
        """The id of the response."""
        ...

    @property
    def item_id(self) -> str:
        """The id of the item in the response."""
        ...

    @property
    def output_index(self) -> int:
        """The index of that item in the response."""
        ...

    @property
    def content_index(self) -> int:
        """The index of the part in the item."""
        ...


class SoundWriter(Protocol):
    """Writes one part of a stream of sound, and remembers nothing of what it has written.

    It is called for every packet, and again for each that is sent to somebody who comes back.
    """

    def encode_sound(self, number: int, timestamp: int, sound: bytes, audio_ms: int) -> EncodedMessage:
        """Returns the message ``number`` of the stream; ``timestamp`` samples of the track came before its sound."""
        ...


class SoundCodec(Protocol):
    """How sound is written. Listeners of one format with one codec share a stream and its messages."""

    @property
    def name(self) -> str:
        """The word by which the ids of its events tell it from other codecs; empty for GA's JSON."""
        ...

    def writer(self, track: str, audio_format: AudioFormat, prefix: str, part: PartOfAnswer | None) -> SoundWriter:
        """Returns a writer for what of a stream of ``track`` belongs to ``part``; None stands for the caller's sound.

        The ids of its events are ``prefix`` and a number.
        """
        ...


class Opening(NamedTuple):
    """What a new listener has to be told of a session that has begun."""

    session: SessionConfig
    body: Body
    """The session as whoever answers has written it."""
    conversation_id: str | None
    """The id of the conversation; None if the session only writes down what is said."""


class Codec(Protocol):
    """The codec of one call for all its listeners of one dialect. It may remember what only its dialect has."""

    @property
    def dialect(self) -> Dialect:
        """The dialect that it writes and reads."""
        ...

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """Yields the events with which a listener begins."""
        ...

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """Returns a server event, which has its number already, as clients read it.

        It is None if the dialect has none like it.
        """
        ...

    def decode(self, text: bytes | str) -> ClientMessage:
        """Returns the message that a client means.

        Raises ``BadEvent``, which names the field as the client wrote it.
        """
        ...

    def refused(self, message: ClientMessage) -> None:
        """Notes that the message which was decoded last has not been carried out."""
        ...

    def farewell(self) -> Body | None:
        """Returns the event that a client is told last, before its socket is closed; None if there is none."""
        ...

    def sound(self, track: str) -> SoundCodec:
        """Returns how sound of ``track`` is written in JSON."""
        ...
