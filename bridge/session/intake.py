"""What clients say to a session; whatever is wrong with it is answered by an ``error`` event."""

from collections.abc import Callable, Iterator

from bridge.errors import BadEvent, BridgeError, Forbidden
from bridge.log import get_logger
from bridge.session.askers import Askers
from bridge.session.hub import Hub, Listener
from bridge.session.playing import Playing
from bridge.session.roles import Upstream
from bridge.session.sound import Sound
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.dialects.beta import Beta
from bridge.wire.dialects.beta import decode_client_event as decode_beta_event

__all__ = ["Intake"]

_log = get_logger("session")

_INVALID_DATA, _TOO_BIG = 1007, 1009


class Intake:
    """Few events are answered here (sound, what concerns a listener alone, playback); the rest goes to the upstream."""

    def __init__(self, hub: Hub, upstream: Upstream, beta: Beta, *, sound: Sound, playing: Playing) -> None:
        self.askers = Askers()
        self._hub = hub
        self._upstream = upstream
        self._beta = beta
        self._sound = sound
        self._playing = playing

    def receive(self, listener: Listener, text: str, *, receive_audio: Callable[[bytes], None]) -> Iterator[None]:
        """One message; with a pause after each second of sound: a long append must not keep other calls waiting."""
        event_id = None
        try:
            event = decode_beta_event(text, self._beta) if listener.is_beta else client.decode_client_event(text)
            event_id = event.event_id
            if isinstance(event, client.InputAudioBufferAppend) and listener.role != "observer":
                for number, piece in enumerate(self._sound.append(event)):
                    if number:
                        yield
                    receive_audio(piece)
            else:
                self._carry_out(listener, event, None if listener.is_beta else text)
        except Exception as failure:
            error = failure if isinstance(failure, BadEvent | Forbidden) else _unforeseen(failure)
            answer = server.error_event(error, event_id=event_id or client.event_id_of(text))
            self._hub.tell(listener, answer)
            if error.code == "invalid_json" and listener.role != "peer":
                listener.close(_INVALID_DATA, "not JSON")

    def refuse(self, listener: Listener, size: int) -> None:
        """A message that is too long to be read: said, then closed."""
        error = BadEvent(f"A message of {size} bytes is over the limit of 15 MiB.", code="event_too_large")
        self._hub.tell(listener, server.error_event(error))
        listener.close(_TOO_BIG, "message over 15 MiB")

    def _carry_out(self, listener: Listener, event: client.ClientEvent, text: str | None) -> None:
        if isinstance(event, client.FlowPause):
            listener.hold()
        elif isinstance(event, client.FlowResume):
            listener.release()
        elif isinstance(event, client.Mark):
            self._playing.mark(listener, event.name)
        elif listener.role == "observer":
            raise Forbidden("This connection may listen only; client events need role=controller.")
        elif isinstance(event, client.OutputAudioBufferClear):
            self._playing.clear_on_request()
        else:
            self.askers.remember(listener, event)
            try:
                self._upstream.receive_event(event, text)
            except BadEvent:
                self.askers.forget_last()
                if isinstance(event, client.ResponseCreate):
                    self._beta.ask(None)
                raise


def _unforeseen(failure: Exception) -> BridgeError:
    """What nobody thought of costs one event, and is told and logged."""
    _log.error("session.event_failed", exc_info=failure)
    return BridgeError("Something went wrong in the server while this event was carried out.")
