"""The codec of the beta dialect, which uses the translations of ``bridge.wire.dialects.beta``."""

from collections.abc import Iterator

from bridge.wire.client_events import ClientMessage, ResponseCreate
from bridge.wire.codecs.codec import EncodedEvent, Opening
from bridge.wire.codecs.ga import GA, JsonSound
from bridge.wire.dialects.beta import AUDIO_DELTA, Beta, read_client_message, to_beta
from bridge.wire.server_events import Body, ConversationCreated, ServerEvent, encode
from bridge.wire.stats import Dialect

__all__ = ["BetaCodec"]

_ANSWERS_SOUND = JsonSound("beta", AUDIO_DELTA)


class BetaCodec:
    """The codec for the beta clients of one call. ``beta`` has what they have set and GA has no place for."""

    dialect = Dialect.BETA

    def __init__(self, beta: Beta) -> None:
        self._beta = beta

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """Yields the session's event, and the conversation's if the session has one."""
        yield from GA.opening(opening)
        if opening.conversation_id is not None:
            conversation = {"id": opening.conversation_id, "object": "realtime.conversation"}
            yield ConversationCreated(conversation=conversation), None

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """Returns the event renamed and flattened; None if beta has none like it."""
        translated = to_beta(event, self._beta)
        return None if translated is None else EncodedEvent(str(translated["type"]), encode(translated))

    def decode(self, text: bytes | str) -> ClientMessage:
        """Returns the GA message that a client means; remembers its temperature."""
        return read_client_message(text, self._beta)

    def refused(self, message: ClientMessage) -> None:
        """Forgets the temperature of a response that was refused, because that response will not come."""
        if isinstance(message.event, ResponseCreate):
            self._beta.ask(None)

    def farewell(self) -> Body | None:
        """Returns None: the close of the socket says enough."""
        return None

    def sound(self, track: str) -> JsonSound:
        """Returns how sound is written: the caller's as in GA, an answer's in an event of another name."""
        return _ANSWERS_SOUND if track == "output" else GA.sound(track)
