"""The one way to a Live call, by a key for it: to start it, to attach a sideband, and to answer a telephone with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from msgspec import UNSET

from bridge.calls.decisions import IncomingCalls
from bridge.calls.directory import unknown_call
from bridge.calls.handles import CallAnswer
from bridge.calls.keys import API_KEY_ID, Grant
from bridge.calls.peers import CallPeers
from bridge.calls.quotas import Quotas, Reservation
from bridge.calls.registry import Registry
from bridge.calls.terms import Terms
from bridge.errors import BadRequest, BridgeError, Forbidden, RequestError, UnknownCall, UpstreamError
from bridge.live.call import LiveCall
from bridge.live.calls import LiveCalls
from bridge.live.connection import LiveConnection
from bridge.live.hosted_tools import refuse_hosted_tools
from bridge.live.leg import PortWatch
from bridge.live.sessions import asked_of
from bridge.media.contracts import Sink
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.session.session import Session
from bridge.turns import Work
from bridge.webrtc.sdp import parse_offer
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.live.client_events import LiveBearer, SessionStart, read_live_event, read_live_message
from bridge.wire.live.server_events import live_error
from bridge.wire.live.sessions import LiveSession, model_of, read_live_session
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent, encode
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import LIVE, WEBRTC, ListenerRole, ListenerStats, Transport

__all__ = ["LiveAccess", "LiveServices", "StoredContent", "StoredSession"]

_START_S = 30.0
_ANSWER_S = 30.0
_POLICY_VIOLATION = 1008
_KEPT_IN_FORK = ("model", "instructions", "input", "delegation", "triggers")
"""Fields in which the fork of a key's session stays as it was."""


class StoredSession(Protocol):
    """A session that a service may have stored."""

    @property
    def model(self) -> str:
        """The model of the call, as clients call it."""
        ...

    @property
    def key_id(self) -> str:
        """The id of the key that opened the call."""
        ...


class StoredContent(Protocol):
    """A recording as the service gives it: the whole, or the range that was asked for."""

    @property
    def status(self) -> int:
        """The status of the service's answer."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that say what and which part of it the bytes are."""
        ...

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes."""
        ...


class LiveServices(Protocol):
    """Services that speak Live themselves."""

    def is_live(self, model: str) -> bool:
        """Whether calls for ``model`` are answered by such a service."""
        ...

    def backend_model(self, model: str) -> str | None:
        """Returns the model that works behind calls for ``model`` if their clients may not choose it; None if unset."""
        ...

    def find_session(self, call_id: str) -> StoredSession:
        """Returns what is known of a call's session, also when the call is over; raises ``UnknownCall``."""
        ...

    def content(self, call_id: str, *, range_header: str | None = None) -> AbstractAsyncContextManager[StoredContent]:
        """Yields the recording of a stored session; raises ``UnknownCall`` or ``UpstreamError``."""
        ...


class LiveAccess:
    """Live calls, as endpoints reach them. It raises as ``CallService`` does.

    ``reserve`` reserves a place for a call of a key, ``open_call`` opens a session in such a place, or in one that it
    takes itself; ``find`` finds one. ``services`` are those that speak Live themselves, if any.
    """

    def __init__(
        self,
        registry: Registry,
        peers: CallPeers,
        incoming: IncomingCalls,
        quotas: Quotas,
        *,
        reserve: Callable[[str], Awaitable[Reservation]],
        open_call: Callable[[Terms, Transport, Reservation | None], Awaitable[Session]],
        find: Callable[[Grant, str], Awaitable[Session]],
        services: LiveServices | None = None,
    ) -> None:
        self._registry = registry
        self._peers = peers
        self._incoming = incoming
        self._quotas = quotas
        self._reserve = reserve
        self._open_call = open_call
        self._find = find
        self._services = services
        self._calls = LiveCalls()

    # Starting

    async def place(self, terms: Terms) -> "LivePlace":
        """Returns the place of a WebSocket that is going to say ``session.start``; it counts as a call from now on.

        Raises as ``CallService.require_room`` does.
        """
        return LivePlace(self, terms, await self._reserve(terms.key_id))

    def fork(self, grant: Grant, terms: Terms, call_id: str) -> Terms:
        """Returns the terms of a call that goes on from a stored session.

        Raises ``UnknownCall`` if there is none that the key may see.
        """
        grant.require_owner()
        return replace(terms, model=self._stored(grant, call_id).model, live_fork=call_id)

    def _stored(self, grant: Grant, call_id: str) -> StoredSession:
        if self._services is None:
            raise _not_stored(call_id)
        stored = self._services.find_session(call_id)
        if grant.is_minted and stored.key_id != grant.key_id:
            raise _not_stored(call_id)
        return stored

    @asynccontextmanager
    async def content(
        self, grant: Grant, call_id: str, *, range_header: str | None = None
    ) -> AsyncIterator[StoredContent]:
        """Yields the recording of a stored session; raises as ``fork`` does, and ``UpstreamError``."""
        grant.require_listener()
        self._stored(grant, call_id)
        assert self._services is not None, "only a Live service stores sessions"
        async with self._services.content(call_id, range_header=range_header) as content:
            yield content

    async def start_with_socket(self, terms: Terms, session: Body, sink: Sink, place: Reservation) -> "LiveSocket":
        """Opens the call that a WebSocket is, in the place that it has; raises as ``CallService.open_with_offer`` does.

        The place is still held if only what was asked for is refused.
        """
        terms, asked = self._prepared(terms, session, "session", is_socket=True)
        opened = await self._open_call(terms, LIVE, place)
        try:
            call = self._calls.add_live_call(opened, asked, limits=self._registry.backlog_limits, is_socket=True)
            connection = call.attach_primary(sink)
            call.follow_session()
        except BaseException:
            opened.close("internal_error")
            raise
        return LiveSocket(call, connection, Reservation())

    async def start_with_offer(self, terms: Terms, session: Any, sdp: bytes) -> CallAnswer:
        """Opens a call over WebRTC; returns the answer as soon as the session has begun."""
        offer = parse_offer(sdp)
        terms, asked = self._prepared(terms, session, "session", is_socket=False)
        opened = await self._open_call(replace(terms, warnings=offer.warnings), WEBRTC, None)
        try:
            call = self._calls.add_live_call(opened, asked, limits=self._registry.backlog_limits, is_socket=False)
            call.follow_session()
            answer = self._peers.answer(opened, offer, watch=call.port)
            await self._begun(call)
        except BaseException:
            opened.close("internal_error")
            raise
        return answer

    async def _begun(self, call: LiveCall) -> None:
        """Waits until the session has begun; raises what kept it from beginning."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await call.begun.wait()
        except TimeoutError:
            raise UpstreamError("The session did not start in time.", code="upstream_timeout") from None
        failure = call.failure
        if isinstance(failure, UpstreamError) and failure.type == BadRequest.type:  # the service blames the client
            raise BadRequest(failure.message, code=failure.code, param=failure.param) from None
        if failure is not None:
            raise failure

    async def accept(self, grant: Grant, call_id: str, session: Any) -> None:
        """Answers a telephone call that waits, with a Live session; raises as ``IncomingCalls.accept`` does."""
        if not isinstance(session, dict) or session.get("type") != "live":
            raise BadRequest("'session.type' must be 'live'.", code="invalid_value", param="session.type")
        body = {name: value for name, value in session.items() if name != "type"}
        terms, asked = self._prepared(Terms(), body, "session", is_socket=False)

        def begin(opened: Session) -> PortWatch:
            call = self._calls.add_live_call(opened, asked, limits=self._registry.backlog_limits, is_socket=False)
            call.follow_session()
            return call.port

        wanted = SessionRequest.of(SessionConfig(model=terms.model or UNSET)).with_update(terms.wanted)
        await self._incoming.accept(grant, call_id, wanted, live=terms.live, begin=begin)

    def _prepared(self, terms: Terms, body: Any, path: str, *, is_socket: bool) -> tuple[Terms, LiveSession | None]:
        """Returns what the session inside is opened with, and what was asked for if it is judged here.

        A key that stands for a session stands for its model, instructions, voice and tools, whatever the client asks.
        Tools that the service runs are the choice of whoever has minted the key.
        """
        if terms.key_id != API_KEY_ID:
            refuse_hosted_tools(body, path)
        if terms.live_fork is not None:
            if not isinstance(body, dict):
                raise BadRequest(f"'{path}' must be a JSON object.", code="invalid_value", param=path)
            if terms.config is not None:
                body = _fork_with_key(body)
            return replace(terms, live=body, update=None, config=None), None
        model = model_of(body, path)
        if terms.config is not None and isinstance(terms.config.config.model, str):
            model = terms.config.config.model
            body = {**body, "model": model}
        if self._services is not None and self._services.is_live(model):
            if terms.config is not None:
                body = _with_key(body, terms.config.body, self._services.backend_model(model))
            return replace(terms, model=model, live=body, update=None, config=None), None
        asked = read_live_session(body, path, is_socket=is_socket)
        update = asked_of(asked, path)
        config = terms.config
        if config is not None:
            config, update = update, _of_key(config)
        return replace(terms, model=model, live=body, config=config, update=update), asked

    # Coming back, and attaching

    def watch(self, session: Session) -> PortWatch | None:
        """Returns what puts a Live call's port in front of the session's own; None if the call is no Live call."""
        call = self._calls.find(session.info.id)
        return None if call is None else call.port

    async def place_for_sideband(self, grant: Grant, call_id: str) -> "SidebandPlace":
        """Returns a place beside a running Live call; raises ``OverLimit`` if it has no room."""
        grant.require_listener()
        session = await self._find(grant, call_id)
        call = self._calls.find(session.info.id)
        if call is None:
            raise unknown_call(call_id)
        session.audience.require_room()
        reservation = Reservation()
        await self._quotas.listeners.reserve_place(grant.key_id, reservation)
        return SidebandPlace(
            call,
            reservation,
            grant.role,
            may_end=call_id != grant.call_id,
            may_choose_model=not grant.is_minted,
        )


def _not_stored(call_id: str) -> UnknownCall:
    message = f"The session '{call_id[:64]}' is not stored here: only services that speak Live store sessions."
    return UnknownCall(message, code="session_not_stored", param="call_id")


@dataclass(slots=True)
class LivePlace:
    """The place of a WebSocket that has not said yet which session it wants; a ``SocketPlace``."""

    access: LiveAccess
    terms: Terms
    reservation: Reservation
    is_owner = True

    def bind_task(self) -> None:
        """Does nothing, because there is no call yet."""

    async def attach(self, sink: Sink) -> "StartingSocket":
        """See ``SocketPlace``."""
        return StartingSocket(self.access, self.terms, sink, self.reservation)

    def give_up(self) -> None:
        """See ``SocketPlace``."""
        self.reservation.release()


class StartingSocket:
    """A WebSocket until it has said ``session.start``, and from then on the call's primary one; a ``SocketHandle``.

    A start that does not fit is refused, and may be said again within 30 seconds. What the bridge itself refuses ends
    the connection. It counts as a call from the beginning: ``reservation`` becomes the call's.
    """

    def __init__(self, access: LiveAccess, terms: Terms, sink: Sink, reservation: Reservation) -> None:
        self._access = access
        self._terms = terms
        self._sink = sink
        self._reservation = reservation
        self._socket: LiveSocket | None = None
        self._deadline = asyncio.get_running_loop().call_later(_START_S, self._give_up)

    async def receive_text(self, text: str, work: Work) -> None:
        """See ``SocketHandle``."""
        if self._socket is not None:
            await self._socket.receive_text(text, work)
            return
        event_id = None
        try:
            message = read_live_message(text, LiveBearer.PRIMARY)
            event_id = message.event_id
            event = read_live_event(message)
            if not isinstance(event, SessionStart):
                message_text = "The first event of a Live session must be session.start."
                raise BadRequest(message_text, code="session_not_started", param="type")
            self._socket = await self._access.start_with_socket(
                self._terms, event.session, self._sink, self._reservation
            )
            self._socket.call.session.context.bind_task()
            self._deadline.cancel()
        except BridgeError as error:
            self._refuse(error, event_id)
            may_try_again = isinstance(error, RequestError) and error.http_status == BadRequest.http_status
            if not may_try_again or not self._reservation.is_held:
                self._sink.close(error.close_code if error.http_status >= 500 else _POLICY_VIOLATION, error.message)

    def refuse_binary(self) -> None:
        """See ``SocketHandle``."""
        error = BadRequest("Events must be JSON text, not binary messages.", code="invalid_json")
        if self._socket is None:
            self._refuse(error, None)
        else:
            self._socket.refuse_binary()

    def refuse_long(self, chars: int) -> None:
        """See ``SocketHandle``."""
        if self._socket is None:
            self._sink.close(_POLICY_VIOLATION, "message too long")
        else:
            self._socket.refuse_long(chars)

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """See ``SocketHandle``."""
        self._deadline.cancel()
        self._reservation.release()
        if self._socket is not None:
            self._socket.detach(reason, error=error, is_lost=is_lost)

    def _refuse(self, error: BridgeError, event_id: str | None) -> None:
        event = live_error(error, client_event_id=event_id)
        event.event_id = new_id("event")
        self._sink.send_message(EncodedMessage(encode(event), event_id=event.event_id))

    def _give_up(self) -> None:
        self._sink.close(_POLICY_VIOLATION, "no session.start within 30 seconds")


@dataclass(frozen=True, slots=True)
class SidebandPlace:
    """The place of a server that follows a Live call; a ``SocketPlace``."""

    call: LiveCall
    reservation: Reservation
    role: ListenerRole
    may_end: bool
    may_choose_model: bool
    is_owner = False

    def bind_task(self) -> None:
        """See ``SocketPlace``."""
        self.call.session.context.bind_task()

    async def attach(self, sink: Sink) -> "LiveSocket | None":
        """See ``SocketPlace``."""
        if not self.call.session.lifetime.is_open:
            self.reservation.release()
            sink.close(1000, "call ended")
            return None
        connection = self.call.attach_sideband(
            sink, self.role, may_end=self.may_end, may_choose_model=self.may_choose_model
        )
        listed = self.call.session.audience.subscribe(_Listed(connection))
        return LiveSocket(self.call, connection, self.reservation, listed)

    def give_up(self) -> None:
        """See ``SocketPlace``."""
        self.reservation.release()


class LiveSocket:
    """A WebSocket of a running Live call; a ``SocketHandle``."""

    def __init__(
        self,
        call: LiveCall,
        connection: LiveConnection,
        reservation: Reservation,
        listed: Subscription | None = None,
    ) -> None:
        self.call = call
        self._listed = listed
        self._connection = connection
        self._reservation = reservation

    async def receive_text(self, text: str, work: Work) -> None:
        """See ``SocketHandle``."""
        if not self.call.session.lifetime.is_open:
            return
        async with self.call.session.send_lock:
            work.begin()  # the wait for the turn does not count as work
            for _ in self.call.receive_text(self._connection, text):
                await work.rest(is_pause=True)

    def refuse_binary(self) -> None:
        """See ``SocketHandle``."""
        error = BadRequest("Events must be JSON text, not binary messages.", code="invalid_json")
        self.call.refuse(self._connection, error)

    def refuse_long(self, chars: int) -> None:
        """See ``SocketHandle``."""
        self._connection.listener.close(1009, "message over 15 MiB")

    def detach(self, reason: str, *, error: BridgeError | None = None, is_lost: bool = False) -> None:
        """See ``SocketHandle``."""
        self._reservation.release()
        if self._listed is not None:
            self._listed.cancel()
        self.call.detach(self._connection, "connection_lost" if is_lost else reason, error)


class _Listed:
    """A sideband among a call's listeners; a ``Consumer`` that hears nothing, because ``LiveCall`` tells it all."""

    def __init__(self, connection: LiveConnection) -> None:
        self._connection = connection

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Does nothing."""

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Does nothing."""

    def ended(self, error: Exception | None) -> None:
        """Does nothing."""

    def listed(self) -> ListenerStats:
        """Returns its figures."""
        return self._connection.listener.stats()


def _of_key(config: SessionRequest) -> SessionRequest:
    """Returns the fields of a key's session that its maker has written; they count before what a Live client asks."""
    names = ("instructions", "tools", "tool_choice", "max_output_tokens")
    body: Body = {name: config.body[name] for name in names if name in config.body}
    audio = config.body.get("audio")
    output = audio.get("output") if isinstance(audio, dict) else None
    if isinstance(output, dict) and "voice" in output:
        body["audio"] = {"output": {"voice": output["voice"]}}
    fields = {name: getattr(config.config, name) for name in body if name != "audio"}
    return SessionRequest(SessionConfig(**fields), body)


def _with_key(body: Body, key: Body, backend_model: str | None) -> Body:
    """Returns a session for a service, with what a key's session says in the place of what the client asks.

    The model that works is the key's, or else ``backend_model``. Raises ``Forbidden`` if there is neither.
    """
    laid = dict(body)
    laid["delegation"] = key.get("delegation") or _delegated(body, backend_model)
    if "instructions" in key:
        laid["instructions"] = key["instructions"]
    audio = key.get("audio")
    output = audio.get("output") if isinstance(audio, dict) else None
    if isinstance(output, dict) and "voice" in output:
        asked = body.get("audio")
        asked = asked if isinstance(asked, dict) else {}
        own = asked.get("output")
        laid["audio"] = {**asked, "output": {**(own if isinstance(own, dict) else {}), "voice": output["voice"]}}
    delegation: Any = laid["delegation"]
    responses = delegation.get("responses") if isinstance(delegation, dict) else None
    tools = {name: key[name] for name in ("tools", "tool_choice") if name in key}
    if isinstance(responses, dict) and tools:
        laid["delegation"] = {**delegation, "responses": {**responses, **tools}}
    return laid if delegation is not None else {name: value for name, value in laid.items() if name != "delegation"}


def _delegated(body: Body, backend_model: str | None) -> Body | None:
    """Returns the delegation that a client asks for, with this model in the place of the client's choice."""
    delegation: Body | None = body.get("delegation")
    kind = delegation.get("type") if isinstance(delegation, dict) else None
    if delegation is None or kind == "client":
        return delegation
    responses = delegation.get("responses") if kind == "responses" else None
    if not isinstance(responses, dict) or backend_model is None:
        name = "type" if responses is None else "responses.model"
        message = "The key's session delegates to no model, and a page may not choose one."
        raise Forbidden(message, param=f"session.delegation.{name}")
    return {**delegation, "responses": {**responses, "model": backend_model}}


def _fork_with_key(body: Body) -> Body:
    """Returns what a fork asks for, without what a key's session has settled."""
    kept = {name: value for name, value in body.items() if name not in _KEPT_IN_FORK}
    audio = kept.get("audio")
    if isinstance(audio, dict):
        kept["audio"] = {name: value for name, value in audio.items() if name != "output"}
    return kept
