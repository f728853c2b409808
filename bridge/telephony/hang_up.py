"""Hangs up by a carrier's HTTP API, if closing a stream leaves the caller on the line, at somebody's cost."""

import asyncio
from collections.abc import Callable
from typing import Any

from bridge.log import get_logger
from bridge.outgoing import HTTPError, HTTPStatusError, new_client
from bridge.telephony.http_api import ApiRequest, HttpApi, NewApi, is_call_id

__all__ = ["NOBODYS", "HttpHangUp", "hang_up_by"]

NOBODYS = "00000000-0000-0000-0000-000000000000"
"""An id that no call has, in a form that carriers know."""

_log = get_logger("telephony")

_TIMEOUT_S = 5.0
_TRIES = 3
_PAUSE_S = 0.5
_AGAIN = (429, 500, 502, 503, 504)
_GONE = (404, 422)  # the call is not there, or is over, which is what we want


class HttpHangUp:
    """Ends calls by a request to a carrier's API."""

    def __init__(self, api: HttpApi, request: ApiRequest) -> None:
        self.failures = 0
        """The number of calls that may still be up because hanging up failed."""
        self._api = api
        self._request = request

    async def hang_up(self, call: str) -> None:
        """Ends the call, with a few tries; never raises. An id that no call can have is not asked for."""
        try:
            problem = await self._ask(call) if is_call_id(call) else "odd_call_id"
        except Exception as error:  # whatever is wrong with one call must not end the others
            problem = type(error).__name__
        if problem:
            self.failures += 1
            carrier = self._api.carrier
            _log.warning("telephony.hang_up_failed", carrier=carrier, carrier_call_id=call[:256], problem=problem)

    async def try_key(self) -> int | str:
        """Asks once to end a call that nobody has, to see whether the carrier takes the key.

        Returns the HTTP status, or what kept the request from being answered. A carrier that takes the key says that
        there is no such call.
        """
        try:
            async with new_client(_TIMEOUT_S, self._api.headers, trust_env=False) as http:
                return (await self._api.send_request(http, self._request, NOBODYS)).status_code
        except HTTPStatusError as error:  # the request for a token failed
            return error.response.status_code
        except Exception as error:  # also if the key is malformed, so that it signs nothing
            return type(error).__name__

    async def _ask(self, call: str) -> str:
        """Returns what was wrong in the end; an empty text if nothing was."""
        problem = ""
        async with new_client(_TIMEOUT_S, self._api.headers, trust_env=False) as http:
            for number in range(_TRIES):
                if number:
                    await asyncio.sleep(_PAUSE_S * number)
                try:
                    response = await self._api.send_request(http, self._request, call)
                except HTTPStatusError as error:  # the request for a token failed
                    problem = f"HTTP {error.response.status_code} for a token"
                    if error.response.status_code not in _AGAIN:
                        break
                    continue
                except (HTTPError, ValueError) as error:
                    problem = type(error).__name__
                    continue
                if response.is_success or response.status_code in _GONE:
                    return ""
                problem = f"HTTP {response.status_code}"
                if response.status_code not in _AGAIN:
                    break
        return problem


def hang_up_by(new_api: NewApi, path: str, *, method: str = "POST", body: Any = None) -> Callable[[Any], Any]:
    """Returns what makes an ``HttpHangUp`` of a carrier's settings: None if its API cannot be asked."""

    def new(settings: Any) -> HttpHangUp | None:
        api = new_api(settings)
        return None if api is None else HttpHangUp(api, ApiRequest(path=path, method=method, body=body))

    return new
