"""AudioSocket's row: a TCP port of its own. UUIDs open it, and some of them are good for one call."""

import asyncio
import time
from typing import Annotated
from uuid import uuid4

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.api.body import read_json
from bridge.api.operation import Operation
from bridge.api.secrets import read_request
from bridge.calls.keys import Grant, KeyPurpose
from bridge.errors import Forbidden
from bridge.telephony.audiosocket.connection import AudioSocketConnection
from bridge.telephony.audiosocket.dialect import AudioSocket
from bridge.telephony.audiosocket.settings import AudioSocketSettings
from bridge.telephony.carrier import TELEPHONY, Carrier, CarrierHost, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.sign_in import counted
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionConfig

__all__ = ["AUDIOSOCKET", "Uuid", "UuidRequest"]


class UuidRequest(Struct, frozen=True):
    """The body of ``POST /v1/telephony/audiosocket``: a UUID is wanted for one call."""

    session: SessionConfig | UnsetType = UNSET
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 60


class Uuid(Struct, frozen=True):
    """A UUID that is good for one call."""

    uuid: str
    expires_at: int


async def _listen(host: CarrierHost[AudioSocketSettings]) -> asyncio.Server | None:
    settings = host.settings
    if settings.audiosocket_port is None:
        return None
    listening = host.ports.tcp(settings.audiosocket_host, settings.audiosocket_port, setting="audiosocket_port")
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _connection(host), sock=listening, start_serving=False)


def _connection(host: CarrierHost[AudioSocketSettings]) -> AudioSocketConnection:
    return AudioSocketConnection(host.carrier_calls, _trust(host.settings), host.gate, host.tasks)


def _trust(settings: AudioSocketSettings) -> Trust:
    checks = f"{counted('audiosocket_uuid', settings.audiosocket_uuid)}, single-use UUIDs"
    return Trust(needs_token=True, secrets=settings.audiosocket_uuid, checks=checks)


async def _new_uuid(host: CarrierHost[AudioSocketSettings], request: Request) -> Response:
    """Makes a UUID that AudioSocket takes once, for a dialplan that asks for it before it connects."""
    await host.admit_operator(request)
    if host.settings.audiosocket_port is None:
        raise Forbidden("This endpoint is closed: audiosocket_port is not set.", code="endpoint_closed")
    host.calls.require_accepting()
    wanted, session = read_request(await read_json(request), UuidRequest)
    uuid = str(uuid4())
    config = host.calls.complete_session(session) if session is not None else None
    grant = Grant(key_id=new_id("key"), purpose=KeyPurpose.TELEPHONE, config=config, is_single_use=True)
    await host.keys.store.mint(grant, ttl_s=wanted.seconds, key=uuid)
    return JSONResponse({"uuid": uuid, "expires_at": int(time.time()) + wanted.seconds})


AUDIOSOCKET = Carrier(
    name=AudioSocket.name,
    settings=AudioSocketSettings,
    is_open=lambda settings: settings.audiosocket_port is not None,
    listen=_listen,
    endpoints=(
        HttpEndpoint(
            operation=Operation(
                method="post",
                path=f"{TELEPHONY}/{AudioSocket.name}",
                summary="A UUID that opens one AudioSocket call.",
                request=UuidRequest,
                response=Uuid,
            ),
            handle=_new_uuid,
        ),
    ),
)
