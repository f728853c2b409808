"""What clients say to a session; whatever is wrong with it is answered by an ``error`` event."""

from collections.abc import Iterator

from structlog.typing import FilteringBoundLogger

from bridge.errors import BadEvent, BridgeError, Forbidden
from bridge.session.audio_router import AudioRouter
from bridge.session.contracts import Upstream
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.playback_controller import PlaybackController
from bridge.session.request_tracker import RequestTracker
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.stats import ListenerRole

__all__ = ["ClientEventHandler"]

_UNSUPPORTED_DATA, _INVALID_DATA, _TOO_BIG = 1003, 1007, 1009  # close codes, RFC 6455 section 7.4.1


class ClientEventHandler:
    """Answers the few events that are about sound, playback or one listener alone; all others go to the upstream."""

    def __init__(
        self,
        hub: Hub,
        upstream: Upstream,
        *,
        state: SessionState,
        router: AudioRouter,
        playback: PlaybackController,
        log: FilteringBoundLogger,
    ) -> None:
        self.requests = RequestTracker()
        self._hub = hub
        self._upstream = upstream
        self._state = state
        self._router = router
        self._playback = playback
        self._log = log

    def receive_text(self, listener: Listener, text: str) -> Iterator[None]:
        """One message; with a pause after each second of sound, so that a long one keeps no other call waiting."""
        event_id = None
        try:
            message = listener.codec.decode(text)
            event = message.event
            event_id = event.event_id
            listener.unreadable = 0
            if isinstance(event, client.InputAudioBufferAppend) and listener.role is not ListenerRole.OBSERVER:
                for number, piece in enumerate(self._router.append(listener, event)):
                    if number:
                        yield
                    self._router.receive_caller_audio(piece)
            else:
                self._carry_out(listener, message)
        except Exception as failure:
            self._answer(listener, failure, event_id)

    def _answer(self, listener: Listener, failure: Exception, event_id: str | None) -> None:
        """Tells what is wrong with an event; ``event_id`` is None if it could not be read.

        The exception is kept in no variable of the function that caught it: that would be a cycle through its
        traceback, in which a long event stayed in memory until the garbage collector came by.
        """
        error = failure if isinstance(failure, BadEvent | Forbidden) else self._unforeseen(failure)
        if event_id is None and isinstance(error, BadEvent):
            event_id = error.event_id
        self._hub.tell(listener, server.error_event(error, event_id=event_id))
        if error.code != "invalid_json":
            listener.unreadable = 0
        elif listener.role is not ListenerRole.PEER:  # a data channel goes with its call only
            listener.count_unreadable(_INVALID_DATA, "not JSON")

    def _unforeseen(self, failure: Exception) -> BridgeError:
        """An error that nobody foresaw costs one event. It is logged, and its sender is told."""
        self._log.error("session.event_failed", exc_info=failure)
        return BridgeError("Something went wrong in the server while it handled this event.")

    def refuse_binary(self, listener: Listener) -> None:
        """Refuses a binary message, which carries no event."""
        error = BadEvent("Events must be JSON text, not binary messages.", code="invalid_json")
        self._hub.tell(listener, server.error_event(error))
        listener.count_unreadable(_UNSUPPORTED_DATA, "events must be JSON text")

    def refuse_long_text(self, listener: Listener, chars: int) -> None:
        """Refuses a message that is too long to be read, and closes the socket."""
        error = BadEvent(f"A message of {chars} bytes is over the limit of 15 MiB.", code="event_too_large")
        self._hub.tell(listener, server.error_event(error))
        listener.close(_TOO_BIG, "message over 15 MiB")

    def _carry_out(self, listener: Listener, message: client.ClientMessage) -> None:
        event = message.event
        self._router.settle_samples(listener, event)
        if isinstance(event, client.FlowPause):
            listener.hold()
        elif isinstance(event, client.FlowResume):
            listener.release()
        elif isinstance(event, client.Mark):
            self._playback.mark(listener, event.name)
        elif listener.role is ListenerRole.OBSERVER:
            raise Forbidden("This connection may only listen; client events need role=controller.")
        elif isinstance(event, client.OutputAudioBufferClear):
            self._playback.clear_on_request()
        else:
            self._state.require_bytes(message)
            self.requests.remember(listener, event)
            try:
                self._upstream.receive_client_event(message)
            except BadEvent:
                self.requests.forget_last()
                listener.codec.refused(message)
                raise
