"""The carriers' doors under ``/v1/telephony``: Twilio, Telnyx and Asterisk by WebSocket; AudioSocket has its own port.

A door without its secret is closed. What is wrong is said before the upgrade where it is known by then, else by closing
the socket before any sound went either way; each refusal is counted by door and reason.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl
from uuid import uuid4

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bridge.config import Config
from bridge.errors import BadRequest, BridgeError, Forbidden, Unauthorized, UpstreamError, error_body
from bridge.front.body import read_body, read_json
from bridge.front.gate import Gate
from bridge.front.keys import Grant, Keys, subprotocols
from bridge.front.listen import bind
from bridge.front.secrets import read_request, whole_session
from bridge.front.socket import SocketSink
from bridge.log import get_logger
from bridge.session.registry import Registry
from bridge.telephony.asterisk.dialect import SUBPROTOCOL, Asterisk
from bridge.telephony.asterisk.fetch import FetchedSocket, fetch
from bridge.telephony.audiosocket.connection import AudioSocketConnection
from bridge.telephony.carrier_calls import CarrierCalls, Trust, address_of, is_one_of
from bridge.telephony.dialect import Dialect
from bridge.telephony.leg import CarrierLeg, Line, notice_death
from bridge.telephony.telnyx.dialect import AUTH_TOKEN_HEADER, Telnyx
from bridge.telephony.telnyx.hang_up import TelnyxApi
from bridge.telephony.twilio import dialect as twilio
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionConfig

__all__ = ["TELEPHONY", "FetchRequest", "Telephony", "UuidRequest"]

_log = get_logger("telephony")

TELEPHONY = "/v1/telephony"
"""Where all of them are."""

_TOKEN_TTL_S = 60.0  # between our answer to the webhook and the stream's start
_MAX_FORM_BYTES = 65_536
_MAX_FIELDS = 200
_HANG_UPS = (1000, 1005)  # closed by the carrier, with or without a code (RFC 6455 section 7.4.1)
_TOKEN = "token"
_KEYS = "telephones' keys"
_MAX_SHOWN = 256
_PASSED_ON = ("From", "To")

_S = TypeVar("_S", bound=Struct)


class FetchRequest(Struct, frozen=True):
    """The body of ``POST /v1/telephony/asterisk``: a channel that waits there for us."""

    connection_id: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,128}$")]
    session: SessionConfig | UnsetType = UNSET


class UuidRequest(Struct, frozen=True):
    """The body of ``POST /v1/telephony/audiosocket``: a UUID for one call."""

    session: SessionConfig | UnsetType = UNSET
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 60


class Telephony:
    """All doors of one daemon; ``async with`` opens the port and runs the clock."""

    def __init__(self, config: Config, registry: Registry, keys: Keys, gate: Gate | None = None) -> None:
        self.calls = CarrierCalls(config, registry, keys, on_hang_up=self._hang_up)
        self.audiosocket_port: int | None = None
        self._config = config
        self._registry = registry
        self._keys = keys
        self._gate = gate or Gate(config.max_pending, config.max_pending_per_address)
        self._server: asyncio.Server | None = None
        self._tasks = asyncio.TaskGroup()
        self._telnyx_api: TelnyxApi | None = None
        if config.telnyx_api_key is not None:
            self._telnyx_api = TelnyxApi(config.telnyx_api_key)

    async def __aenter__(self) -> "Telephony":
        config = self._config
        if config.audiosocket_port is not None:
            listening = bind(config.audiosocket_host, config.audiosocket_port, setting="audiosocket_port")
            checks = f"{_counted('audiosocket_uuid', config.audiosocket_uuid)}, single-use UUIDs"
            trust = Trust(needs_token=True, secrets=config.audiosocket_uuid, checks=checks)
            self._server = await asyncio.get_running_loop().create_server(
                lambda: AudioSocketConnection(self.calls, trust, self._gate), sock=listening
            )
            self.audiosocket_port = listening.getsockname()[1]
        await self.calls.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()
        await self._tasks.__aexit__(None, None, None)
        await self.calls.__aexit__()

    @property
    def routes(self) -> list[BaseRoute]:
        """What the HTTP server serves of it."""
        return [
            Route(TELEPHONY, self._describe, methods=["GET"]),
            Route(f"{TELEPHONY}/twilio", self._answer_twilio, methods=["POST"]),
            WebSocketRoute(f"{TELEPHONY}/twilio", self._twilio),
            WebSocketRoute(f"{TELEPHONY}/telnyx", self._telnyx),
            Route(f"{TELEPHONY}/asterisk", self._fetch, methods=["POST"]),
            WebSocketRoute(f"{TELEPHONY}/asterisk", self._asterisk),
            Route(f"{TELEPHONY}/audiosocket", self._new_uuid, methods=["POST"]),
        ]

    # WebSockets

    async def _twilio(self, websocket: WebSocket) -> None:
        def judge() -> Trust:
            self._require_signature("ws", websocket, {})
            needs_token = self._config.twilio_require_token
            return Trust(is_admitted=True, needs_token=needs_token, checks=_KEYS)

        await self._serve(websocket, twilio.Twilio(), judge, checks=self._signed("ws", websocket))

    async def _telnyx(self, websocket: WebSocket) -> None:
        headers, query = websocket.headers, websocket.query_params
        shown = headers.get(AUTH_TOKEN_HEADER) or _bearer(headers) or query.get(_TOKEN)
        checks = f"{_counted('telnyx_secret', self._config.telnyx_secret)}, {_KEYS}"

        def judge() -> Trust:
            return Trust(secrets=self._secrets("telnyx_secret", self._config.telnyx_secret), checks=checks)

        await self._serve(websocket, Telnyx(shown, query), judge, checks=checks)

    async def _asterisk(self, websocket: WebSocket) -> None:
        parameters = dict(websocket.query_params)
        token = parameters.pop(_TOKEN, None)
        checks = _counted("asterisk_secret", self._config.asterisk_secret)

        def judge() -> Trust:
            secrets = self._secrets("asterisk_secret", self._config.asterisk_secret)
            password = _password(websocket.headers)
            if password is not None and not is_one_of(password, secrets):
                raise Unauthorized("The password is not valid here.", code="invalid_secret")
            if password is None and token is None:
                raise Unauthorized("Give the password by HTTP Basic authentication.", code="missing_secret")
            return Trust(is_admitted=password is not None, secrets=secrets, checks=f"{checks}, {_KEYS}")

        await self._serve(websocket, Asterisk(parameters, token=token), judge, checks=checks)

    async def _serve(self, websocket: WebSocket, dialect: Dialect, judge: Callable[[], Trust], *, checks: str) -> None:
        """One connection, from its handshake to its end; ``checks`` is what ``judge`` compares, for the log."""
        sender = address_of(websocket.client)
        try:
            trust = judge()
        except BridgeError as error:
            self.calls.refuse(dialect.name, error, sender=sender, checks=checks)
            await websocket.send_denial_response(JSONResponse({"error": error_body(error)}, error.http_status))
            return
        sink = SocketSink.of(websocket.scope)
        if not dialect.traits.takes_pings:
            sink.send_no_pings()
            notice_death(sink.transport.get_extra_info("socket"))
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in subprotocols(websocket.headers) else None)

        async def receive() -> str | bytes | None:
            message = await websocket.receive()
            if message["type"] == "websocket.receive":
                text: str | None = message.get("text")
                return text if text is not None else bytes(message["bytes"])
            if sink.received_close_code in _HANG_UPS:
                return None
            raise ConnectionResetError

        await self.calls.carry(Line(dialect, sink, sender=sender), receive, trust)

    # HTTP

    async def _answer_twilio(self, request: Request) -> Response:
        """An incoming call's webhook: TwiML that streams it here, with a token for this one stream."""
        form: dict[str, str] = {}
        try:
            self._secrets("twilio_auth_token", self._config.twilio_auth_token)
            _require_signed(request)  # before a byte of the body is read
            form = _fields(await read_body(request, _MAX_FORM_BYTES))
            self._require_signature("http", request, form)
        except BridgeError as error:
            call, sender = form.get("CallSid", ""), address_of(request.client)
            self.calls.refuse("twilio", error, call=call, sender=sender, checks=self._signed("http", request))
            raise
        grant = Grant(key_id=new_id("key"), purpose="telephone", is_single_use=True)
        self._registry.require_room(grant.key_id)
        token = self._keys.mint(grant, ttl_s=_TOKEN_TTL_S)
        parameters = {twilio.TOKEN_PARAMETER: token}
        parameters |= {name.lower(): form[name] for name in _PASSED_ON if form.get(name)}
        return Response(
            twilio.write_twiml(self._public("ws", f"{TELEPHONY}/twilio"), parameters), media_type="text/xml"
        )

    async def _fetch(self, request: Request) -> Response:
        """A channel that waits in Asterisk (``WebSocket/INCOMING``): we connect to it, and it is a call like any."""
        grant = self._admit_operator(request)
        if self._config.asterisk_url is None:
            raise Forbidden("No Asterisk to fetch calls from is known here; see asterisk_url.", code="door_closed")
        wanted, session = read_request(await read_json(request), FetchRequest)
        self._registry.require_room()
        trust = Trust(grant=grant, session=session)
        connection = await fetch(f"{self._config.asterisk_url.rstrip('/')}/{wanted.connection_id}")
        answered: asyncio.Future[CarrierLeg] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._carry_fetched(Line(Asterisk(), connection), connection, trust, answered))
        leg = await asyncio.shield(answered)
        location = f"/v1/realtime/calls/{leg.call_id}"
        return JSONResponse({"id": leg.call_id, "object": "realtime.call"}, 201, {"Location": location})

    async def _carry_fetched(
        self, line: Line, connection: FetchedSocket, trust: Trust, answered: asyncio.Future[CarrierLeg]
    ) -> None:
        """Whatever goes wrong with one call must not end the others."""
        try:
            await self.calls.carry(line, connection.receive, trust, on_answered=answered.set_result)
        except Exception as error:
            _log.error("telephony.call_failed", exc_info=error)
        finally:
            line.close(1000, "")
            if not answered.done():
                answered.set_exception(UpstreamError("Asterisk started no call on this channel.", code="no_call"))

    async def _new_uuid(self, request: Request) -> Response:
        """A UUID that AudioSocket takes once, for a dialplan that asks before it connects."""
        self._admit_operator(request)
        if self.audiosocket_port is None:
            raise Forbidden("This door is closed: audiosocket_port is not set.", code="door_closed")
        self._registry.require_accepting()
        wanted, session = read_request(await read_json(request), UuidRequest)
        uuid = str(uuid4())
        config = whole_session(session, self._registry) if session is not None else None
        grant = Grant(key_id=new_id("key"), purpose="telephone", config=config, is_single_use=True)
        self._keys.mint(grant, ttl_s=wanted.seconds, key=uuid)
        return JSONResponse({"uuid": uuid, "expires_at": int(time.time()) + wanted.seconds})

    async def _describe(self, request: Request) -> Response:
        self._admit_operator(request)
        config, calls = self._config, self.calls
        doors = {
            "twilio": bool(config.twilio_auth_token),
            "telnyx": bool(config.telnyx_secret),
            "asterisk": bool(config.asterisk_secret),
            "audiosocket": config.audiosocket_port is not None,
        }
        shown = {name: {"is_open": is_open, "calls": calls.running[name]} for name, is_open in doors.items()}
        return JSONResponse(
            {
                "object": "telephony",
                "doors": shown,
                "refused": calls.refused,
                "faults": calls.faults,
                "late_ticks": calls.clock.late_ticks,
                "hang_ups_failed": self._telnyx_api.failures if self._telnyx_api is not None else 0,
            }
        )

    # Inside

    def _hang_up(self, dialect: str, call: str) -> None:
        """What closing the connection does not do by itself."""
        if dialect == Telnyx.name and self._telnyx_api is not None:
            self._tasks.create_task(self._telnyx_api.hang_up(call))

    def _admit_operator(self, request: Request) -> Grant:
        """Whoever runs this: clients' keys open no telephone lines."""
        grant = self._keys.admit(request.headers)
        grant.require_admin()
        return grant

    def _secrets(self, setting: str, secrets: tuple[str, ...]) -> tuple[str, ...]:
        """What opens the door; raises ``Forbidden`` where there is nothing."""
        if not secrets:
            raise Forbidden(f"This door is closed: {setting} is not set.", code="door_closed")
        return secrets

    def _require_signature(self, scheme: str, request: HTTPConnection, form: Mapping[str, str]) -> None:
        secrets = self._secrets("twilio_auth_token", self._config.twilio_auth_token)
        query = request.scope["query_string"].decode("latin-1")
        url = self._address(scheme, request)
        url = f"{url}?{query}" if query else url
        _require_signed(request)
        if not twilio.is_signed(secrets, url, request.headers, form):
            message = "The signature is not of this address and these secrets; is public_url what Twilio was told?"
            raise Forbidden(message, code="invalid_signature")

    def _signed(self, scheme: str, request: HTTPConnection) -> str:
        """What a signature of ``request`` is compared with; a query may hold secrets, and is not shown."""
        if self._config.public_url is None:
            return ""
        url = self._address(scheme, request)[:_MAX_SHOWN]
        query = "?…" if request.scope["query_string"] else ""
        return f"{url}{query} signed by {_counted('twilio_auth_token', self._config.twilio_auth_token)}"

    def _address(self, scheme: str, request: HTTPConnection) -> str:
        """Of the request without its query, as the carrier knows it."""
        return self._public(scheme, request.scope["raw_path"].decode("latin-1"))

    def _public(self, scheme: str, path: str) -> str:
        """The address of ``path`` as carriers know it; ``scheme`` is http or ws, with an s where ours has one."""
        public_url = self._config.public_url
        assert public_url is not None  # by the check of the settings
        return scheme + public_url.removeprefix("http").rstrip("/") + path


def _require_signed(request: HTTPConnection) -> None:
    if twilio.SIGNATURE_HEADER not in request.headers:
        raise Forbidden("The request is not signed.", code="missing_signature")


def _fields(body: bytes) -> dict[str, str]:
    """Of a form as browsers send it by default."""
    try:
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequest(f"The form has more than {_MAX_FIELDS} fields.", code="invalid_form", param="body") from None


def _counted(setting: str, secrets: tuple[str, ...]) -> str:
    return f"{setting} ({len(secrets)} {'value' if len(secrets) == 1 else 'values'})"


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _password(headers: Headers) -> str | None:
    """Of HTTP Basic authentication (RFC 7617); the user name says nothing here."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError, ValueError):
        return ""
