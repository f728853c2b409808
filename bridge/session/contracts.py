"""Who answers a session: the contracts of a session with its upstream."""

from collections.abc import Callable
from typing import Protocol

from bridge.errors import BridgeError
from bridge.media.contracts import PassingUpstream
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.wire.audio import AudioFormat
from bridge.wire.client_events import ClientMessage
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import UpstreamStats

__all__ = ["Downstream", "LivePassage", "Upstream"]


class Downstream(Protocol):
    """The session, as an upstream reports to it."""

    def deliver_event(self, event: ServerEvent, body: Body | None = None) -> None:
        """Takes a server event other than sound.

        ``body`` is its JSON if that holds more than ``event`` has fields for.
        """
        ...

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer's sound, in the upstream's ``output_format``."""
        ...

    def upstream_changed(self) -> None:
        """The upstream's ``input_format``, ``output_format`` or ``passage`` may have changed, without an event that
        says so.
        """
        ...

    def upstream_closed(self, error: BridgeError | None) -> None:
        """The upstream is gone."""
        ...


class LivePassage(Protocol):
    """The way of Live events between Live clients and an upstream that speaks Live itself. No sound goes by it."""

    def receive_live_client_event(self, body: Body) -> None:
        """Takes a Live client event as the client wrote it; raises ``BadEvent`` if it cannot be passed on."""
        ...

    def tell(self, taker: Callable[[Body], None] | None) -> None:
        """From now on gives each Live server event to ``taker`` as the upstream wrote it, from ``session.started`` on.

        Those that came before are kept for the first taker.
        """
        ...


class Upstream(Protocol):
    """Whoever answers a session."""

    @property
    def live_passage(self) -> LivePassage | None:
        """The way of Live events, if the upstream speaks Live itself; it is the same for the whole call."""
        ...

    @property
    def passage(self) -> PassingUpstream | None:
        """The passage by which Opus goes through as it is, if there is one.

        It changes whenever the upstream is replaced.
        """
        ...

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins the conversation, or goes on with the one in ``state``; ``session.created`` follows.

        The state is to be read; it changes by what is delivered.
        """
        ...

    @property
    def input_format(self) -> AudioFormat:
        """The format in which it takes the caller's sound; it may change whenever the session's configuration does."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """The format in which it delivers the answer; it may change whenever the session's configuration does."""
        ...

    def receive_client_event(self, message: ClientMessage) -> None:
        """Takes a client event other than ``input_audio_buffer.append``.

        Raises ``BadEvent`` if it cannot be carried out.
        """
        ...

    def receive_caller_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in ``input_format``."""
        ...

    def stats(self) -> UpstreamStats:
        """The stats of the upstream: who answers, and how that has gone so far."""
        ...

    async def aclose(self) -> None:
        """Ends the conversation; may be called twice."""
        ...
