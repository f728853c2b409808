"""What a codec is: between the bridge's events and sound, and what one kind of client reads and writes."""

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
    """A server event as clients of one dialect read it."""

    kind: str
    """Its name there, by which clients choose events."""
    text: bytes


class PartOfAnswer(Protocol):
    """Which part of which response sound belongs to."""

    @property
    def response_id(self) -> str:
        """Of the response."""
        ...

    @property
    def item_id(self) -> str:
        """Of its item."""
        ...

    @property
    def output_index(self) -> int:
        """Of that item in the response."""
        ...

    @property
    def content_index(self) -> int:
        """Of the part in the item."""
        ...


class SoundWriter(Protocol):
    """Writes one stream of sound. It is called for every packet."""

    def begin(self, part: PartOfAnswer | None) -> None:
        """What follows belongs to this part; None stands for the caller's sound."""
        ...

    def write(self, number: int, timestamp: int, sound: bytes, audio_ms: int) -> EncodedMessage:
        """The message ``number`` of the stream; ``timestamp`` samples of the track came before its sound."""
        ...


class SoundCodec(Protocol):
    """How sound is written. Listeners of one format with one codec share a stream, and the messages of it."""

    @property
    def name(self) -> str:
        """What the ids of its events say; empty for GA's JSON."""
        ...

    def writer(self, track: str, audio_format: AudioFormat, prefix: str) -> SoundWriter:
        """For a new stream of ``track``, the ids of whose events are ``prefix`` and a number."""
        ...


class Opening(NamedTuple):
    """What a new listener has to be told of a session that has begun."""

    session: SessionConfig
    body: Body
    """The same as whoever answers has written it."""
    conversation_id: str | None
    """None for a session that only writes down what is said."""


class Codec(Protocol):
    """One call's, for all its listeners of one dialect. It may remember what only its dialect has."""

    @property
    def dialect(self) -> Dialect:
        """Which one."""
        ...

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """The events with which a listener begins."""
        ...

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """A server event, numbered already; None if the dialect has none like it."""
        ...

    def decode(self, text: bytes | str) -> ClientMessage:
        """The message that a client means; raises ``BadEvent``, which names the field as the client wrote it."""
        ...

    def refused(self, message: ClientMessage) -> None:
        """What was decoded last has not been carried out."""
        ...

    def sound(self, track: str) -> SoundCodec:
        """How sound of ``track`` is written in JSON."""
        ...
