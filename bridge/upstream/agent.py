"""Agents: plain WebSocket clients that attach with ``role=agent`` and *are* the model.

An agent hears what an upstream hears (``session.created``, then the caller's sound and the clients' events) and says
what an upstream says. It waits in a queue for a call, or attaches to one by its id; a call waits for it likewise.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import msgspec

from bridge.errors import BadEvent, OverLimit, UpstreamError
from bridge.media.contracts import Sink
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.session.state import SessionState
from bridge.upstream.line import LineOwner, WholeSamples
from bridge.wire.audio import AudioFormat
from bridge.wire.base64_json import quoted_base64, read_base64
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.own_events import CallClosed
from bridge.wire.relayed import UPSTREAM_PROTOCOL, decode_relayed
from bridge.wire.server_events import Body, ServerEvent, encode, error_event
from bridge.wire.sessions import format_of
from bridge.wire.stats import ListenerRole

__all__ = ["AgentLine", "AgentQueue", "AgentConnection"]

_NORMAL, _UNSUPPORTED_DATA, _INVALID_DATA = 1000, 1003, 1007  # close codes, RFC 6455 section 7.4.1
_SERVICE_RESTART = 1012
_MAX_WAITING = 1000
_APPEND, _AUDIO, _END = b'{"type":"input_audio_buffer.append","event_id":"', b'","audio":', b"}"


@dataclass(slots=True, eq=False)
class _AgentRequest:
    """A call that wants an agent."""

    call_id: str
    connection: "asyncio.Future[AgentConnection]"


class AgentQueue:
    """Where agents wait for calls, and calls for agents; first come, first served."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """The limits of agents that attach from now on."""
        self._waiting: deque[AgentConnection] = deque()
        self._requests: deque[_AgentRequest] = deque()

    @property
    def waiting(self) -> int:
        """The number of agents that wait for a call."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Raises ``OverLimit`` if too many agents wait already."""
        if len(self._waiting) >= _MAX_WAITING:
            raise OverLimit(f"{_MAX_WAITING} agents are waiting for calls, which is the limit.")

    def attach(self, sink: Sink, call_id: str | None = None) -> "AgentConnection":
        """Takes an agent that has come. With ``call_id`` it is for that call alone."""
        connection = AgentConnection(sink, self, call_id, limits=self.limits)
        for request in self._requests:
            if call_id in (None, request.call_id) and not request.connection.done():
                self._requests.remove(request)
                request.connection.set_result(connection)
                return connection
        self._waiting.append(connection)
        return connection

    async def claim(self, call_id: str, timeout_s: float) -> "AgentConnection":
        """Waits for an agent for the call; raises ``UpstreamError`` if none comes in time."""
        for connection in self._waiting:
            if connection.call_id in (None, call_id):
                self._waiting.remove(connection)
                return connection
        request = _AgentRequest(call_id, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await request.connection
        except TimeoutError:
            if request.connection.done() and not request.connection.cancelled():
                return request.connection.result()  # it came in the very moment
            message = f"No agent attached with role=agent within {timeout_s:g} s."
            raise UpstreamError(message, code="no_agent", is_transient=False) from None
        finally:
            if request in self._requests:
                self._requests.remove(request)

    def dismiss(self) -> None:
        """Closes the sockets of agents that wait for any call: they come back, to the process that takes calls from now
        on.
        """
        for connection in tuple(self._waiting):
            if connection.call_id is None:
                self._waiting.remove(connection)
                connection.close("another process now takes calls", code=_SERVICE_RESTART)

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Takes an event of any call, to know which calls are over."""
        if isinstance(event, CallClosed):
            self._call_ended(event.call_id)

    def _call_ended(self, call_id: str) -> None:
        """Closes the connections that are for this call alone, because it is over."""
        for connection in tuple(self._waiting):
            if connection.call_id == call_id:
                self._waiting.remove(connection)
                connection.close("call ended")

    def leave(self, connection: "AgentConnection") -> None:
        """Takes an agent out of the queue, because it is gone or has a call."""
        if connection in self._waiting:
            self._waiting.remove(connection)


class AgentConnection:
    """The socket of one agent."""

    def __init__(self, sink: Sink, agents: AgentQueue, call_id: str | None, *, limits: Limits) -> None:
        self.call_id = call_id
        self.listener = Listener(sink, role=ListenerRole.AGENT, limits=limits)
        self._agents = agents
        self._line: AgentLine | None = None

    def give_call(self, line: "AgentLine") -> None:
        """Gives the agent a call."""
        self._line = line

    def receive_agent_text(self, text: str) -> None:
        """Takes one message of the agent. Whatever is wrong with it is answered by an ``error`` event."""
        try:
            if self._line is None:
                raise BadEvent("There is no call yet; the first event will be session.created.")
            self._line.receive_agent_text(text)
        except BadEvent as error:
            self._refuse(error)
            if error.code == UPSTREAM_PROTOCOL:
                self.listener.count_unreadable(_INVALID_DATA, "not JSON")
                return
        self.listener.unreadable = 0

    def refuse_binary(self) -> None:
        """A binary message: it carries no event."""
        self._refuse(BadEvent("Events must be JSON text, not binary messages.", code=UPSTREAM_PROTOCOL))
        self.listener.count_unreadable(_UNSUPPORTED_DATA, "events must be JSON text")

    def _refuse(self, error: BadEvent) -> None:
        event = error_event(error)
        event.event_id = new_id("event")
        self.listener.deliver(EncodedMessage(encode(event)))

    def detach(self) -> None:
        """Notes that the socket is gone."""
        self._agents.leave(self)
        if self._line is not None:
            self._line.lost()

    def close(self, reason: str, *, code: int = _NORMAL) -> None:
        """Closes the socket, because its call is over."""
        self.listener.close(code, reason)


class AgentLine:
    """See ``Line``."""

    plays = False
    passage = None

    def __init__(self, agents: AgentQueue, call_id: str, *, timeout_s: float) -> None:
        self._agents = agents
        self._call_id = call_id
        self._timeout_s = timeout_s
        self._connection: AgentConnection | None = None
        self._ended: asyncio.Future[UpstreamError | None] = asyncio.get_running_loop().create_future()
        self._prefix = f"event_{new_id('x')[2:14]}_".encode()
        self._number = 0
        self._samples = WholeSamples()

    async def open(self, owner: LineOwner, state: SessionState) -> None:
        """Waits for an agent, and tells it of the session; raises ``UpstreamError``."""
        self._owner, self._state = owner, state
        self._connection = await self._agents.claim(self._call_id, self._timeout_s)
        self._connection.give_call(self)
        created = {"type": "session.created", "session": _body(state)}
        self.send_client_event(created)
        owner.received(self, created)

    async def run(self) -> UpstreamError | None:
        """Runs until the agent leaves."""
        return await self._ended

    @property
    def input_format(self) -> AudioFormat:
        """The session's format."""
        return format_of(self._state.input.format)

    @property
    def output_format(self) -> AudioFormat:
        """The session's format."""
        return format_of(self._state.output.format)

    def send_client_event(self, body: Body) -> None:
        """Sends a client event as the client wrote it."""
        if self._connection is not None:
            self._connection.listener.deliver(EncodedMessage(encode({"event_id": new_id("event"), **body})))

    def send_audio(self, sound: bytes) -> None:
        """Sends a piece of the caller's sound."""
        if self._connection is not None:
            self._number += 1
            audio_ms = max(1, len(sound) // self.input_format.bytes_per_ms)
            pieces = (_APPEND, self._prefix, b"%d" % self._number, _AUDIO, quoted_base64(sound), _END)
            self._connection.listener.deliver(EncodedMessage.of(pieces, audio_ms=audio_ms))

    def receive_agent_text(self, text: str) -> None:
        """Takes a server event of the agent; raises ``BadEvent``."""
        message = decode_relayed(text)
        if isinstance(message, dict):
            self._owner.received(self, message)
            return
        if not message.response_id or not message.item_id:
            raise BadEvent("A delta must name its response_id and its item_id.", param="item_id")
        try:
            sound = read_base64(str(message.delta))
        except ValueError:
            raise BadEvent("'delta' is not valid base64.", param="delta", code="invalid_audio") from None
        part = Part(message.response_id, message.item_id, message.output_index, message.content_index)
        sound = self._samples.join(part, sound, self.output_format)
        if sound:
            self._owner.received_audio(self, part, sound)

    def lost(self) -> None:
        """Ends the line, because the agent's socket has closed."""
        if not self._ended.done():
            self._ended.set_result(UpstreamError("The agent left.", code="agent_lost"))

    async def aclose(self) -> None:
        """Closes the agent's socket; may be called twice."""
        if self._connection is not None:
            self._connection.close("call ended")
            self._connection = None
        if not self._ended.done():
            self._ended.set_result(None)


def _body(state: SessionState) -> Body:
    body: Body = msgspec.to_builtins(state.config)
    return body
