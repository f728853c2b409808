"""Who answers a session: the contracts of a session with its upstream."""

from typing import Protocol

from bridge.errors import BridgeError
from bridge.media.contracts import PassingUpstream
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.wire.audio import AudioFormat
from bridge.wire.client_events import ClientMessage
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import UpstreamStats

__all__ = ["Downstream", "Upstream"]


class Downstream(Protocol):
    """What an upstream reports to."""

    def deliver_event(self, event: ServerEvent, body: Body | None = None) -> None:
        """A server event, sound excepted; ``body`` if it holds more than ``event`` knows of."""
        ...

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """A piece of the answer's sound, in the upstream's ``output_format``."""
        ...

    def upstream_changed(self) -> None:
        """Its ``input_format``, ``output_format`` or ``passage`` may be another one, although it has said nothing."""
        ...

    def upstream_closed(self, error: BridgeError | None) -> None:
        """The upstream is gone."""
        ...


class Upstream(Protocol):
    """Who answers."""

    @property
    def passage(self) -> PassingUpstream | None:
        """What Opus may pass through as it is, if anything; another one whenever the upstream is replaced."""
        ...

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins the conversation, or goes on with the one in ``state``; ``session.created`` follows.

        The state is to be read; it changes by what is delivered.
        """
        ...

    @property
    def input_format(self) -> AudioFormat:
        """In which it takes the caller's sound; may change whenever the session's configuration does."""
        ...

    @property
    def output_format(self) -> AudioFormat:
        """In which it delivers the answer's sound; may change whenever the session's configuration does."""
        ...

    def receive_client_event(self, message: ClientMessage) -> None:
        """A client event, ``input_audio_buffer.append`` excepted; raises ``BadEvent`` if it cannot be done."""
        ...

    def receive_caller_audio(self, sound: bytes) -> None:
        """A piece of the caller's sound, in ``input_format``."""
        ...

    def stats(self) -> UpstreamStats:
        """Who answers, and how that went so far."""
        ...

    async def aclose(self) -> None:
        """Ends the conversation; may be called twice."""
        ...
