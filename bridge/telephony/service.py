"""The telephone calls of one daemon: it serves what the carriers' table declares, below ``/v1/telephony``.

A carrier without its secret is not let in. If a fault is known before the upgrade, the answer to the upgrade says it.
Otherwise the socket is closed before any sound went either way. Each refusal is counted by carrier and reason.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.body import read_json
from bridge.api.gate import Gate
from bridge.api.keys import Keys, subprotocols
from bridge.api.operation import Operation
from bridge.api.secrets import read_request
from bridge.api.socket import SocketSink
from bridge.calls.service import CallService
from bridge.config import Section, ServerSettings, TelephonySettings
from bridge.context import CallContext, TraceContext, address_of
from bridge.errors import BadRequest, BridgeError, error_body
from bridge.log import get_logger
from bridge.ports import Ports
from bridge.telephony.carrier import TELEPHONY, Carrier, CarrierHost, CarrierSocket, HangUp
from bridge.telephony.carrier_calls import CarrierCalls, Trust
from bridge.telephony.dialect import CallStarted
from bridge.telephony.leg import HANG_UP_CODES, CarrierLine
from bridge.telephony.table import CARRIERS
from bridge.telephony.tcp import notice_death
from bridge.telephony.transfer import document_url
from bridge.wire.stats import TelephonyStats

__all__ = ["CarrierState", "DtmfRequest", "DtmfSent", "Telephony", "TelephonyState", "operations_of"]

_log = get_logger("telephony")

_DTMF_PATH = f"{TELEPHONY}/calls/{{call_id}}/dtmf"


class CarrierState(Struct, frozen=True):
    """Whether a carrier is let in, how many calls it has, and how many more wait to be accepted."""

    is_open: bool
    calls: int
    waiting: int


class TelephonyState(Struct, frozen=True, kw_only=True):
    """The carriers by name; refused connections by carrier and reason; messages of no use by what was wrong."""

    object: str = "telephony"
    endpoints: dict[str, CarrierState]
    refused: dict[str, int]
    faults: dict[str, int]
    late_ticks: int
    """How many ticks of 20 ms were left out because the process stood still."""
    hang_ups_failed: int
    """The number of calls that a carrier's API failed to hang up."""


class DtmfRequest(Struct, frozen=True):
    """The body of ``POST /v1/telephony/calls/{call_id}/dtmf``."""

    keys: Annotated[str, Meta(pattern="^[0-9*#A-D]{1,64}$")]
    """The keys to press, one after another."""


class DtmfSent(Struct, frozen=True, kw_only=True):
    """The keys that were sent to the carrier."""

    object: str = "telephony.dtmf"
    keys: str


class Telephony:
    """All carriers of one daemon.

    ``async with`` opens their ports and runs the clock. ``accept`` starts to take calls at these ports.
    """

    def __init__(
        self,
        settings: TelephonySettings,
        calls: CallService,
        keys: Keys,
        gate: Gate | None = None,
        *,
        carriers: Sequence[Carrier[Any]] = CARRIERS,
        of_carriers: Iterable[Section] = (),
        queue_limit_s: int = 600,
        ports: Ports | None = None,
    ) -> None:
        """Takes the settings; a carrier whose section is not among ``of_carriers`` has its defaults."""
        self.calls = CarrierCalls(
            settings,
            calls,
            keys.store,
            on_hang_up=self._hang_up,
            transfer=self._transfer,
            queue_limit_s=queue_limit_s,
        )
        self.ports: dict[str, int] = {}
        """The TCP ports of carriers that have one of their own, by the carrier's name."""
        self._carriers = tuple(carriers)
        self._keys = keys
        self._tasks = asyncio.TaskGroup()
        server = ServerSettings()
        given = {type(section): section for section in of_carriers}
        self.hosts = {
            carrier.name: CarrierHost(
                settings=given.get(carrier.settings, carrier.settings()),
                telephony=settings,
                calls=calls,
                keys=keys,
                gate=gate or Gate(server.max_pending, server.max_pending_per_address),
                carrier_calls=self.calls,
                tasks=self._tasks,
                ports=ports or Ports(),
            )
            for carrier in self._carriers
        }
        """What each carrier's functions are given, by its name."""
        self.hang_ups = {
            carrier.name: carrier.new_hang_up(self.hosts[carrier.name].settings) for carrier in self._carriers
        }
        """How calls are ended by each carrier's HTTP API, by its name; None if closing is enough."""
        self._failed_before = 0  # with ways to hang up that have been replaced
        self._stack = contextlib.AsyncExitStack()

    def apply(self, settings: TelephonySettings, of_carriers: Iterable[Section], *, queue_limit_s: int) -> None:
        """Applies new settings: at once for signing in and hanging up, and to new calls for the rest."""
        self.calls.apply(settings, queue_limit_s=queue_limit_s)
        given = {type(section): section for section in of_carriers}
        for carrier in self._carriers:
            host = self.hosts[carrier.name]
            host.telephony = settings
            new = given.get(carrier.settings, carrier.settings())
            if new != host.settings:
                host.settings = new
                hang_up = self.hang_ups[carrier.name]
                self._failed_before += 0 if hang_up is None else hang_up.failures
                self.hang_ups[carrier.name] = carrier.new_hang_up(new)
        self._tell_of_closed()

    def _tell_of_closed(self) -> None:
        """Says in the log which carriers are waited for although nothing lets their calls in."""
        for carrier in self._carriers:
            host = self.hosts[carrier.name]
            if carrier.name in host.telephony.incoming_wait and not carrier.is_open(host.settings):
                _log.warning("telephony.waits_for_closed", carrier=carrier.name, setting="incoming_wait")

    async def __aenter__(self) -> "Telephony":
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.calls)
            servers = [await self._listen(carrier, stack) for carrier in self._carriers]
            self._servers = [server for server in servers if server is not None]
            await stack.enter_async_context(self._tasks)  # after all that may fail: a task group would wrap the error
            for server in self._servers:
                stack.callback(server.close)  # before the tasks are waited for
            self._stack = stack.pop_all()
        self._tell_of_closed()
        return self

    async def accept(self) -> None:
        """Takes calls at the carriers' own ports from now on. Until then, connections wait there."""
        for server in self._servers:
            await server.start_serving()

    def stop_listening(self) -> None:
        """Takes no more connections at the carriers' own ports. Open connections stay."""
        for server in self._servers:
            server.close()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes that the HTTP server serves for the carriers."""
        routes: list[BaseRoute] = [
            Route(TELEPHONY, self._describe, methods=["GET"]),
            Route(_DTMF_PATH, self._press_keys, methods=["POST"]),
        ]
        for carrier in self._carriers:
            for endpoint in carrier.endpoints:
                operation = endpoint.operation
                handle = self._bound(carrier.name, endpoint.handle)
                routes.append(Route(operation.path, handle, methods=[operation.method.upper()]))
            if carrier.socket is not None:
                serve = self._socket(carrier.name, carrier.socket)
                routes.append(WebSocketRoute(_path(carrier), serve))
                if carrier.socket.is_prefix:
                    routes.append(WebSocketRoute(f"{_path(carrier)}/{{rest:path}}", serve))
        return routes

    @property
    def operations(self) -> list[Operation]:
        """The operations behind ``routes``, for the description of the API."""
        return operations_of(self._carriers)

    def stats(self) -> TelephonyStats:
        """Returns counts of all carriers, since the start."""
        return TelephonyStats(
            refused=dict(self.calls.refused),
            faults=dict(self.calls.faults),
            late_ticks=self.calls.clock.late_ticks,
            hang_ups_failed=self._failed_before
            + sum(way.failures for way in self.hang_ups.values() if way is not None),
        )

    async def _listen(self, carrier: Carrier[Any], stack: contextlib.AsyncExitStack) -> asyncio.Server | None:
        server = await carrier.listen(self.hosts[carrier.name]) if carrier.listen is not None else None
        if server is not None:
            stack.callback(server.close)
            self.ports[carrier.name] = server.sockets[0].getsockname()[1]
        return server

    def _bound(self, name: str, handle: Callable[[CarrierHost[Any], Request], Awaitable[Response]]) -> Any:
        async def serve(request: Request) -> Response:
            return await handle(self.hosts[name], request)

        return serve

    def _socket(self, name: str, socket: CarrierSocket[Any]) -> Any:
        async def serve(websocket: WebSocket) -> None:
            await self._serve(name, socket, websocket)

        return serve

    async def _serve(self, name: str, socket: CarrierSocket[Any], websocket: WebSocket) -> None:
        """Serves one connection, from its handshake to its end."""
        sender = address_of(websocket.client)
        host = self.hosts[name]
        try:
            signed_in = socket.sign_in(host, websocket)
            trust = signed_in if isinstance(signed_in, Trust) else await signed_in
        except BridgeError as error:
            self.calls.refuse(name, error, sender=sender, checks=socket.checks(host, websocket))
            await websocket.send_denial_response(JSONResponse({"error": error_body(error)}, error.http_status))
            return
        dialect = socket.new_dialect(websocket)
        sink = SocketSink.of(websocket.scope)
        if not dialect.traits.takes_pings:
            sink.send_no_pings()
            notice_death(sink.transport.get_extra_info("socket"))
        offered = subprotocols(websocket.headers)
        await websocket.accept(next((name for name in socket.subprotocols if name in offered), None))

        async def receive() -> str | bytes | None:
            message = await websocket.receive()
            if message["type"] == "websocket.receive":
                text: str | None = message.get("text")
                return text if text is not None else bytes(message["bytes"])
            if sink.received_close_code in HANG_UP_CODES:
                return None
            raise ConnectionResetError

        line = CarrierLine(dialect, sink, sender=sender, trace=TraceContext.of(websocket.headers))
        await self.calls.carry(line, receive, trust, on_answered=lambda context: sink.let_in(), scope=websocket.scope)

    async def _describe(self, request: Request) -> Response:
        await self._keys.admit_admin(request.headers)
        running, waiting = self.calls.running, self.calls.waiting
        state = TelephonyState(
            endpoints={
                carrier.name: CarrierState(
                    carrier.is_open(self.hosts[carrier.name].settings), running[carrier.name], waiting[carrier.name]
                )
                for carrier in self._carriers
            },
            refused=self.calls.refused,
            faults=self.calls.faults,
            late_ticks=self.calls.clock.late_ticks,
            hang_ups_failed=self.stats().hang_ups_failed,
        )
        return JSONResponse(msgspec.to_builtins(state))

    async def _press_keys(self, request: Request) -> Response:
        """Lets the caller's side hear keys as if somebody had pressed them here."""
        await self._keys.admit_admin(request.headers)
        wanted, _ = read_request(await read_json(request), DtmfRequest)
        self.calls.find(request.path_params["call_id"]).press_keys(wanted.keys)
        return JSONResponse({"object": "telephony.dtmf", "keys": wanted.keys})

    def _hang_up(self, carrier: str, started: CallStarted, context: CallContext) -> None:
        """Hangs up by the carrier's API, if closing the connection does not end the call.

        The id of a call that is not proved may be of somebody else's call, so that nothing is done by it.
        """
        hang_up = self.hang_ups[carrier]
        if hang_up is None:
            return
        if started.is_proved:
            self._tasks.create_task(_hang_up_for(context, hang_up, started.call))
        else:
            context.logger("telephony").warning(
                "telephony.hang_up_left_out", carrier=carrier, carrier_call_id=started.call[:256]
            )

    async def _transfer(self, line: CarrierLine, started: CallStarted, target_uri: str) -> Sequence[str | bytes]:
        """Has a line's carrier transfer a call; see ``leg.Transfer``."""
        name = line.dialect.name
        carrier = next(one for one in self._carriers if one.name == name)
        if carrier.transfer_words is not None:
            return carrier.transfer_words(line.dialect, target_uri)
        way = carrier.new_transfer(self.hosts[name].settings)
        if way is None:
            raise _no_way(carrier, self._carriers)
        if not started.is_proved:
            reason = "Nothing proves this call's ID: mint the call's key with bridge.carrier_call_id."
            raise BadRequest(reason, code="refer_unsupported", param="call_id")
        host = self.hosts[name]
        if carrier.transfers_by_document(host.settings):
            target_uri = await document_url(host, name, started.call, target_uri)
        await way.transfer(started.call, target_uri)
        return ()


def _no_way(carrier: Carrier[Any], carriers: Sequence[Carrier[Any]]) -> BadRequest:
    """Returns an error that says why a carrier's calls cannot be transferred."""
    if carrier.transfer_needs:
        needs = " and ".join(carrier.transfer_needs)
        reason = f"Calls of {carrier.name} cannot be transferred without the settings {needs}."
    else:
        able = ", ".join(one.name for one in carriers if one.transfer_needs or one.transfer_words is not None)
        reason = f"Calls of {carrier.name} cannot be transferred; those of these carriers can: {able}."
    return BadRequest(reason, code="refer_unsupported", param="call_id")


async def _hang_up_for(context: CallContext, hang_up: HangUp, call: str) -> None:
    context.bind_task()
    await hang_up.hang_up(call)


def operations_of(carriers: Sequence[Carrier[Any]] = CARRIERS) -> list[Operation]:
    """Returns the operations below ``/v1/telephony``, for the description of the API."""
    state = Operation(method="get", path=TELEPHONY, summary="The carriers' endpoints.", response=TelephonyState)
    keys = Operation(
        method="post",
        path=_DTMF_PATH,
        summary="Presses keys (DTMF) on a telephone call, if its carrier supports that.",
        request=DtmfRequest,
        response=DtmfSent,
    )
    operations = [state, keys]
    for carrier in carriers:
        operations += (endpoint.operation for endpoint in carrier.endpoints)
        if (socket := carrier.socket) is not None:
            summary = f"A WebSocket for {socket.what}. It is opened by {socket.opened_by}."
            operations.append(Operation(method="get", path=_path(carrier), summary=summary, status=101, is_public=True))
    return operations


def _path(carrier: Carrier[Any]) -> str:
    return f"{TELEPHONY}/{carrier.name}"
