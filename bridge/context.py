"""The identity of a call: made once when the call begins, and given to everyone who works for it.

Its leg, its upstream, the engine and the recording write their log lines with a logger of the context, so that every
line of a call can be found by its ``call_id``.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from bridge.log import get_logger

__all__ = ["CallContext", "address_of", "logger_of"]

_MAX_METADATA = 16
_OF_NUMBERS = frozenset({"ani", "called", "caller", "callerid", "caller_id", "dnis", "from", "number", "phone", "to"})
_NUMBER = re.compile(r"\+?\d[\d ().-]{4,}\d")
_INTERNATIONAL_NUMBER = re.compile(r"\+\d[\d ().-]{4,}\d")  # ITU-T E.164, and as it is spelled on paper
_MAX_NAME_CHARS = 64
_MAX_VALUE_CHARS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallContext:
    """What does not change during a call."""

    call_id: str
    """The id by which listeners and log lines find the call; for a session over a WebSocket, the session's id."""
    session_id: str
    caller: str = ""
    """``host:port`` from which the call was asked for: the caller's, or its carrier's. Empty if it is not known."""
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    """What the carrier calls the call, by the carrier's own names of these ids."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What a telephone call brought with it, or a beta session was opened with, which its client may change later."""
    secrets: Collection[str] = field(default=(), repr=False)
    """Values of ``metadata`` that open an endpoint, and are never logged."""
    trace_id: str | None = None
    """The id of the distributed trace that the call is a part of (W3C Trace Context, section 3.2.2.3)."""

    def logger(self, room: str, **keys: Any) -> FilteringBoundLogger:
        """A logger of ``room`` that writes ``call_id``, ``trace_id`` if there is one, and ``keys`` on each line."""
        return get_logger(room, **self._keys, **keys)

    def bind_task(self) -> None:
        """Puts the same fields on every line that the running task writes from now on, lines of libraries included."""
        structlog.contextvars.bind_contextvars(**self._keys)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the call came from, for its first and its last line: bounded, telephone numbers by two digits.

        What is not known is left out.
        """
        metadata = {
            name[:_MAX_NAME_CHARS]: _masked(name, value)[:_MAX_VALUE_CHARS]
            for name, value in list(self.metadata.items())[:_MAX_METADATA]
            if value not in self.secrets
        }
        known = {"caller": self.caller, "carrier_ids": dict(self.carrier_ids), "metadata": metadata}
        return {name: value for name, value in known.items() if value}

    @property
    def _keys(self) -> dict[str, str]:
        traced = {} if self.trace_id is None else {"trace_id": self.trace_id}
        return {"call_id": self.call_id, **traced}


def _masked(name: str, value: str) -> str:
    """Masks a telephone number but for its last two digits, which tell two callers apart."""
    pattern = _NUMBER if name.lower() in _OF_NUMBERS else _INTERNATIONAL_NUMBER
    return pattern.sub(lambda number: f"…{number[0][-2:]}", value)


def logger_of(room: str, context: CallContext | None) -> FilteringBoundLogger:
    """The logger of ``room`` for a call; without a ``context``, as in a client, the room's own."""
    return get_logger(room) if context is None else context.logger(room)


def address_of(peername: Any) -> str:
    """The other end of a connection as ``host:port``, ``[host]:port`` for IPv6; empty if it has none."""
    if not isinstance(peername, tuple | list) or len(peername) < 2:
        return ""
    host, port = str(peername[0]), peername[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
