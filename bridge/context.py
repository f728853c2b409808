"""The identity of a call, which is made once when the call begins, and given to everyone who works for it.

The call's leg, its upstream, the engine and the recording write their log lines with a logger of the context, so that
every line of a call can be found by its ``call_id``.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from bridge.log import get_logger

__all__ = ["CallContext", "TraceContext", "address_of", "holder_of", "logger_of"]

_PARENT, _STATE = "traceparent", "tracestate"
_TRACEPARENT = re.compile(
    "(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.{1,64})?"
)
_MAX_STATE_CHARS = 512
_OWN_BITS = 64  # the network part of an IPv6 address
_MAX_METADATA = 16
_OF_NUMBERS = frozenset({"ani", "called", "caller", "callerid", "caller_id", "dnis", "from", "number", "phone", "to"})
_NUMBER = re.compile(r"\+?\d[\d ().-]{4,}\d")
_INTERNATIONAL_NUMBER = re.compile(r"\+\d[\d ().-]{4,}\d")  # as in ITU-T E.164, or as people write it
_MAX_NAME_CHARS = 64
_MAX_VALUE_CHARS = 256


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a distributed trace, as the headers ``traceparent`` and ``tracestate`` say it (W3C Trace Context)."""

    trace_id: str
    span_id: str
    is_sampled: bool = True
    state: str = ""
    """What other tracing systems have added; it is passed on as it is."""
    parent_id: str = ""
    """The span in which this one was begun; empty if it is the first of the trace, or begun by another system."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "TraceContext | None":
        """Returns the place that a request's headers name; None if they name none, or a malformed one."""
        match = _TRACEPARENT.fullmatch(headers.get(_PARENT, ""))
        if match is None or match["version"] == "ff" or not int(match["trace"], 16) or not int(match["span"], 16):
            return None
        if match["version"] == "00" and match["more"]:
            return None
        state = headers.get(_STATE, "")
        is_state_good = len(state) <= _MAX_STATE_CHARS and state.isascii() and state.isprintable()
        return cls(match["trace"], match["span"], bool(int(match["flags"], 16) & 1), state if is_state_good else "")

    @property
    def headers(self) -> dict[str, str]:
        """Returns the headers with which a request says that it belongs to this place."""
        said = {_PARENT: f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"}
        return {**said, _STATE: self.state} if self.state else said


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallContext:
    """The facts of a call that do not change while it lasts."""

    call_id: str
    """The id by which listeners and log lines find the call; for a session over a WebSocket, the session's id."""
    session_id: str
    caller: str = ""
    """The ``host:port`` from which the call was asked for: the caller's, or its carrier's. Empty if it is not known."""
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    """The carrier's ids of the call, by the carrier's own names for them."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What a telephone call or a beta session brought with it. The client of a beta session may change it later."""
    secrets: Collection[str] = field(default=(), repr=False)
    """Values of ``metadata`` that open an endpoint, and are never logged."""
    carrier_call: str = ""
    """The carrier's own id of a telephone call, if it is proved: with this id the carrier may connect it again."""
    token_digests: Collection[str] = field(default=(), repr=False)
    """Digests of the tokens with which the call's carrier may connect it again, in whichever process."""
    trace: TraceContext | None = None
    """The call's place in a distributed trace, if it is a part of one."""

    @property
    def trace_headers(self) -> dict[str, str]:
        """The headers of trace context for requests that are made for the call; empty if it has no trace."""
        return {} if self.trace is None else self.trace.headers

    def logger(self, room: str, **keys: Any) -> FilteringBoundLogger:
        """Returns a logger of ``room`` that writes ``call_id``, ``keys``, and any ``trace_id`` on each line."""
        return get_logger(room, **self._keys, **keys)

    def bind_task(self) -> None:
        """Puts these fields on every line that the running task writes from now on, also on the lines of libraries."""
        structlog.contextvars.bind_contextvars(**self._keys)

    @property
    def origin(self) -> dict[str, Any]:
        """Returns where the call came from, for its first and its last log line.

        It is bounded. Telephone numbers are shown by their last two digits. What is not known is left out.
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
        traced = {} if self.trace is None else {"trace_id": self.trace.trace_id}
        return {"call_id": self.call_id, **traced}


def _masked(name: str, value: str) -> str:
    """Masks a telephone number except its last two digits, which tell two callers apart."""
    pattern = _NUMBER if name.lower() in _OF_NUMBERS else _INTERNATIONAL_NUMBER
    return pattern.sub(lambda number: f"…{number[0][-2:]}", value)


def logger_of(room: str, context: CallContext | None) -> FilteringBoundLogger:
    """Returns the logger of ``room`` for a call. Without a ``context``, as in a client, it is the room's own logger."""
    return get_logger(room) if context is None else context.logger(room)


def address_of(peername: Any) -> str:
    """Returns the other end of a connection as ``host:port``, or ``[host]:port`` for IPv6; empty if it has none."""
    if not isinstance(peername, tuple | list) or len(peername) < 2:
        return ""
    host, port = str(peername[0]), peername[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def holder_of(address: str) -> str | int:
    """Returns who has an IP address, for limits: the address itself, or the network of 64 bits of an IPv6 address.

    Whoever has one IPv6 address has that network. An IPv4 address that is written as IPv6 is an IPv4 address.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a name
    if isinstance(parsed, IPv4Address):
        return address
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else int(parsed) >> _OWN_BITS
