"""The embedded engine takes over a call whose upstreams are gone, or answers it as the one that is configured."""

from bridge.errors import BadEvent
from bridge.session.contracts import Downstream, Upstream
from bridge.session.state import SessionState
from bridge.upstream.backlog import UpstreamBacklog
from bridge.upstream.line_relay import LineRelay
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["take_over"]


def take_over(
    engine: Upstream, downstream: Downstream, state: SessionState, relay: LineRelay, backlog: UpstreamBacklog
) -> None:
    """Starts the engine, which goes on from the session's state, and tells it what was asked and not answered."""
    told, uncommitted, again = relay.hand_over(engine.input_format)
    engine.start(_Successor(downstream, is_live=relay.is_live, offset_ms=relay.offset_ms), state)

    def tell(bodies: list[Body]) -> None:
        for body in bodies:
            try:
                engine.receive_client_event(client.message_of(body))
            except BadEvent as error:
                if not relay.is_own(body["event_id"]):
                    downstream.deliver_event(server.error_event(error, event_id=body["event_id"]))

    tell(told)
    sound = uncommitted + backlog.take_audio(engine.input_format)
    if sound:
        engine.receive_caller_audio(sound)
    tell([*again, *backlog.take_events()])


class _Successor:
    """Passes the engine's events to the session; a session that is live already is updated, and not created anew."""

    def __init__(self, downstream: Downstream, *, is_live: bool, offset_ms: int) -> None:
        self._downstream = downstream
        self._is_live = is_live
        self._offset_ms = offset_ms
        self.deliver_audio = downstream.deliver_audio
        self.upstream_changed = downstream.upstream_changed
        self.upstream_closed = downstream.upstream_closed

    def deliver_event(self, event: ServerEvent, body: Body | None = None) -> None:
        """Passes an event on. The first one may become an update, and times count from the session's first sound."""
        if self._is_live and isinstance(event, server.SessionCreated):
            event = server.SessionUpdated(session=event.session)
        elif isinstance(event, server.InputAudioBufferSpeechStarted):
            event.audio_start_ms += self._offset_ms
        elif isinstance(event, server.InputAudioBufferSpeechStopped):
            event.audio_end_ms += self._offset_ms
        elif isinstance(event, server.InputAudioBufferTimeoutTriggered):
            event.audio_start_ms += self._offset_ms
            event.audio_end_ms += self._offset_ms
        self._downstream.deliver_event(event, body)
