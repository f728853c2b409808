"""The beta dialect, by the translations of ``bridge.wire.dialects.beta``."""

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
    """``beta`` is what the call's clients have set that GA has no place for."""

    dialect = Dialect.BETA

    def __init__(self, beta: Beta) -> None:
        self._beta = beta

    def opening(self, opening: Opening) -> Iterator[tuple[ServerEvent, Body | None]]:
        """The session, and the conversation if it has one."""
        yield from GA.opening(opening)
        if opening.conversation_id is not None:
            conversation = {"id": opening.conversation_id, "object": "realtime.conversation"}
            yield ConversationCreated(conversation=conversation), None

    def encode(self, event: ServerEvent | Body) -> EncodedEvent | None:
        """Renamed and flattened; None if no beta client has heard of it."""
        translated = to_beta(event, self._beta)
        return None if translated is None else EncodedEvent(str(translated["type"]), encode(translated))

    def decode(self, text: bytes | str) -> ClientMessage:
        """The GA message that is meant; its temperature is remembered."""
        return read_client_message(text, self._beta)

    def refused(self, message: ClientMessage) -> None:
        """No response comes that would have a temperature of its own."""
        if isinstance(message.event, ResponseCreate):
            self._beta.ask(None)

    def sound(self, track: str) -> JsonSound:
        """The caller's sound is as GA has it; an answer's has another name."""
        return _ANSWERS_SOUND if track == "output" else GA.sound(track)
