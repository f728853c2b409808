"""Asterisk's row: channels that connect here, and channels that wait there until they are fetched."""

import asyncio
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from bridge.api.body import read_json
from bridge.api.operation import LOCATION, Operation
from bridge.api.secrets import read_request
from bridge.context import CallContext
from bridge.errors import Forbidden, Unauthorized, UpstreamError
from bridge.log import get_logger
from bridge.telephony.asterisk.dialect import SUBPROTOCOL, Asterisk
from bridge.telephony.asterisk.fetch import FetchedSocket, fetch
from bridge.telephony.asterisk.settings import AsteriskSettings
from bridge.telephony.carrier import TELEPHONY, Carrier, CarrierHost, CarrierSocket, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.leg import CarrierLine
from bridge.telephony.sign_in import TELEPHONES_KEYS, basic_password, counted, is_one_of, require_secrets
from bridge.wire.sessions import SessionConfig

__all__ = ["ASTERISK", "FetchRequest", "FetchedCall"]

_log = get_logger("telephony")

_PATH = f"{TELEPHONY}/{Asterisk.name}"


class FetchRequest(Struct, frozen=True):
    """The body of ``POST /v1/telephony/asterisk``: a channel that waits in Asterisk for the bridge."""

    connection_id: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,128}$")]
    session: SessionConfig | UnsetType = UNSET


class FetchedCall(Struct, frozen=True):
    """The call that was made of a waiting channel."""

    id: str
    object: str = "realtime.call"


def _sign_in(host: CarrierHost[AsteriskSettings], request: HTTPConnection) -> Trust:
    secrets = require_secrets("asterisk_secret", host.settings.asterisk_secret)
    password = basic_password(request.headers)
    if password is not None and not is_one_of(password, secrets):
        raise Unauthorized("The password is not valid here.", code="invalid_secret")
    if password is None and TOKEN_PARAMETER not in request.query_params:
        raise Unauthorized("Give the password by HTTP Basic authentication.", code="missing_secret")
    checks = f"{_checks(host, request)}, {TELEPHONES_KEYS}"
    return Trust(is_admitted=password is not None, secrets=secrets, checks=checks)


def _checks(host: CarrierHost[AsteriskSettings], request: HTTPConnection) -> str:
    return counted("asterisk_secret", host.settings.asterisk_secret)


def _new_dialect(request: HTTPConnection) -> Asterisk:
    parameters = dict(request.query_params)
    return Asterisk(parameters, token=parameters.pop(TOKEN_PARAMETER, None))


async def _fetch(host: CarrierHost[AsteriskSettings], request: Request) -> Response:
    """Connects to a channel that waits in Asterisk (``WebSocket/INCOMING``), and makes it a call like any other."""
    grant = await host.admit_operator(request)
    if host.settings.asterisk_url is None:
        raise Forbidden(
            "No Asterisk is configured from which calls can be fetched; see asterisk_url.", code="endpoint_closed"
        )
    wanted, session = read_request(await read_json(request), FetchRequest)
    await host.calls.require_room()
    trust = Trust(grant=grant, session=session)
    connection = await fetch(f"{host.settings.asterisk_url.rstrip('/')}/{wanted.connection_id}")
    answered: asyncio.Future[CallContext] = asyncio.get_running_loop().create_future()
    host.tasks.create_task(_carry(host, connection, trust, answered))
    context = await asyncio.shield(answered)
    location = f"/v1/realtime/calls/{context.call_id}"
    return JSONResponse({"id": context.call_id, "object": "realtime.call"}, 201, {"Location": location})


async def _carry(
    host: CarrierHost[AsteriskSettings], connection: FetchedSocket, trust: Trust, answered: asyncio.Future[CallContext]
) -> None:
    """Carries a fetched call. Whatever goes wrong with it must not end the others."""
    line = CarrierLine(Asterisk(), connection, sender=connection.address)
    try:
        await host.carrier_calls.carry(line, connection.receive_message, trust, on_answered=answered.set_result)
    except Exception as error:
        _log.error("telephony.call_failed", exc_info=error)
    finally:
        line.close(1000, "")
        if not answered.done():
            answered.set_exception(UpstreamError("Asterisk started no call on this channel.", code="no_call"))


ASTERISK = Carrier(
    name=Asterisk.name,
    settings=AsteriskSettings,
    is_open=lambda settings: bool(settings.asterisk_secret),
    socket=CarrierSocket(
        what="Asterisk's chan_websocket",
        opened_by="HTTP Basic authentication, or a single-use token in the URL",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=_new_dialect,
        subprotocols=(SUBPROTOCOL,),
    ),
    endpoints=(
        HttpEndpoint(
            operation=Operation(
                method="post",
                path=_PATH,
                summary="Connects to a channel that waits in Asterisk.",
                request=FetchRequest,
                status=201,
                response=FetchedCall,
                headers=LOCATION,
            ),
            handle=_fetch,
        ),
    ),
)
