"""Who speaks for the model in a Live call: a GA session, or a service that speaks Live itself."""

from typing import Protocol

from bridge.live.connection import LiveConnection
from bridge.wire.live.client_events import LiveMessage
from bridge.wire.server_events import ServerEvent

__all__ = ["LiveMind"]


class LiveMind(Protocol):
    """What a Live call says and is told, but for sound."""

    def start(self) -> None:
        """Begins to speak: whoever is to hear the start of the session is there."""
        ...

    def receive_client_message(self, connection: LiveConnection, message: LiveMessage) -> None:
        """Takes a client event; raises ``BridgeError`` if it cannot be carried out."""
        ...

    def follow(self, event: ServerEvent) -> None:
        """Takes an event of the session, in GA's words."""
        ...

    def greet(self, connection: LiveConnection) -> None:
        """Tells a connection that comes after the start what the session is."""
        ...

    def spoken(self, words: str, at_ms: int) -> None:
        """Takes the words that the caller hears from ``at_ms`` of the session on, if the session has said them."""
        ...

    def spend(self) -> None:
        """Tells what the session has cost so far, if it is time for that; it is asked at every tick."""
        ...

    def close(self, reason: str) -> None:
        """Says that the session is over, for a reason of Live's."""
        ...
