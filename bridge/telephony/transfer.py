"""Transfers a call by its carrier's HTTP API: the carrier connects the caller to somebody else, without the bridge.

Some carriers take the new instructions for a call in the request. Others take an address, and fetch them there: the
bridge serves them at ``/v1/telephony/NAME/transfer``, to whoever shows the key that is in that address.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from bridge.api.operation import Operation
from bridge.calls.keys import redeem_telephone_key
from bridge.context import address_of
from bridge.errors import BadRequest, BridgeError, UpstreamError
from bridge.outgoing import HTTPError, new_client
from bridge.telephony.carrier import TELEPHONY, CarrierHost, HttpEndpoint
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.http_api import ApiRequest, HttpApi, NewApi, is_call_id
from bridge.telephony.sign_in import require_secrets
from bridge.telephony.webhook import new_stream_token

__all__ = ["HttpTransfer", "document_endpoint", "document_url", "transfer_by"]

_TIMEOUT_S = 10.0
_TO = "to"


class HttpTransfer:
    """Transfers calls by a request to a carrier's API.

    The request is sent once, because a carrier that did not answer may have transferred the call.
    """

    def __init__(self, api: HttpApi, request: ApiRequest) -> None:
        self._api = api
        self._request = request

    async def transfer(self, call: str, target: str) -> None:
        """Transfers the call by one request; see ``CallTransfer``."""
        if not is_call_id(call):
            raise BadRequest("The carrier's call ID is not valid.", code="refer_failed", param="call_id")
        carrier = self._api.carrier
        try:
            async with new_client(_TIMEOUT_S, self._api.headers, trust_env=False) as http:
                response = await self._api.send_request(http, self._request, call, target)
        except (HTTPError, ValueError) as error:  # ValueError: the answer to the request for a token held none
            reason = f"{carrier} cannot be reached: {str(error) or type(error).__name__}"
            raise UpstreamError(reason, code="refer_failed") from error
        if response.is_success:
            return
        reason = f"{carrier} did not transfer the call: it answered with HTTP status {response.status_code}."
        if response.status_code < 500:
            raise BadRequest(reason, code="refer_failed", param="target_uri")
        raise UpstreamError(reason, code="refer_failed")


def transfer_by(
    new_api: NewApi,
    path: str,
    body: Callable[[str], Mapping[str, Any] | str],
    *,
    method: str = "POST",
    is_form: bool = False,
) -> Callable[[Any], Any]:
    """Returns what makes an ``HttpTransfer`` of a carrier's settings: None if its API cannot be asked.

    ``body`` is made of the target's URI, or of the address of the document with ``Carrier.transfers_by_document``.
    """
    request = ApiRequest(path=path, method=method, body=body, is_form=is_form)

    def new(settings: Any) -> HttpTransfer | None:
        api = new_api(settings)
        return None if api is None else HttpTransfer(api, request)

    return new


def document_endpoint(
    name: str, *, title: str, setting: str, media_type: str, write: Callable[[str], str]
) -> HttpEndpoint[Any]:
    """Returns the operation at which the carrier fetches how a call goes on; ``write`` makes it of the target's URI.

    It is closed without ``setting``.
    """

    async def answer(host: CarrierHost[Any], request: Request) -> Response:
        try:
            require_secrets(setting, getattr(host.settings, setting))
            await redeem_telephone_key(host.keys.store, request.query_params.get(TOKEN_PARAMETER, ""))
        except BridgeError as error:
            sender = address_of(request.client)
            host.carrier_calls.refuse(name, error, sender=sender, checks="the key of a transfer")
            raise
        return Response(write(request.query_params.get(_TO, "")), media_type=media_type)

    operation = Operation(
        method="get",
        path=_path(name),
        summary=f"Instructions for a transferred call, which {title} fetches once.",
        response=media_type,
        is_public=True,
    )
    return HttpEndpoint(operation=operation, handle=answer)


async def document_url(host: CarrierHost[Any], name: str, call: str, target_uri: str) -> str:
    """Returns the address of the document that transfers ``call``; raises ``BadRequest`` without ``public_url``."""
    if host.telephony.public_url is None:
        reason = f"Calls of {name} cannot be transferred without the setting public_url."
        raise BadRequest(reason, code="refer_unsupported", param="call_id")
    token = await new_stream_token(host, call, is_plain=True)
    return host.public_url("http", f"{_path(name)}?{urlencode({_TO: target_uri, TOKEN_PARAMETER: token})}")


def _path(name: str) -> str:
    return f"{TELEPHONY}/{name}/transfer"
