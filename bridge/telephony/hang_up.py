"""Hangs up by a carrier's HTTP API, if closing a stream leaves the caller on the line, at somebody's cost."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from bridge.log import get_logger
from bridge.outgoing import Client, HTTPError, HTTPStatusError, Request, Response, new_client

__all__ = ["NOBODYS", "HttpHangUp"]

NOBODYS = "00000000-0000-0000-0000-000000000000"
"""An id that no call has, in a form that carriers know."""

_log = get_logger("telephony")

_TIMEOUT_S = 5.0
_TRIES = 3
_PAUSE_S = 0.5
_AGAIN = (429, 500, 502, 503, 504)
_MAX_CALL_ID = 256
_GONE = (404, 422)  # the call is not there, or is over, which is what we want


class HttpHangUp:
    """Ends calls by a request to ``url``, in which ``{call}`` stands for the carrier's id of the call.

    The request brings ``body`` as JSON, if any. ``authorize`` makes the headers that are new for each call, such as a
    token that was just signed or fetched. ``sign`` adds a signature to the request.
    """

    def __init__(
        self,
        carrier: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        body: Any = None,
        authorize: Callable[[Client], Awaitable[Mapping[str, str]]] | None = None,
        sign: Callable[[Request], Request] | None = None,
    ) -> None:
        self.failures = 0
        """The number of calls that may still be up because hanging up failed."""
        self._carrier = carrier
        self._url = url
        self._headers = dict(headers or {})
        self._method = method
        self._body = body
        self._authorize = authorize
        self._sign = sign

    async def hang_up(self, call: str) -> None:
        """Ends the call, with a few tries; never raises.

        An id that has only dots would lead a step up in the path, so it is refused. So is an id that is too long.
        """
        is_odd = not call.strip(".") or len(call) > _MAX_CALL_ID
        try:
            problem = "odd_call_id" if is_odd else await self._ask(call)
        except Exception as error:  # whatever is wrong with one call must not end the others
            problem = type(error).__name__
        if problem:
            self.failures += 1
            _log.warning("telephony.hang_up_failed", carrier=self._carrier, carrier_call_id=call[:256], problem=problem)

    async def try_key(self) -> int | str:
        """Asks once to end a call that nobody has, to see whether the carrier takes the key.

        Returns the HTTP status, or what kept the request from being answered. A carrier that takes the key says that
        there is no such call.
        """
        try:
            async with new_client(_TIMEOUT_S, self._headers, trust_env=False) as http:
                return (await self._request(http, NOBODYS)).status_code
        except HTTPStatusError as error:  # the request for a token failed
            return error.response.status_code
        except Exception as error:  # also if the key is malformed, so that it signs nothing
            return type(error).__name__

    async def _ask(self, call: str) -> str:
        """Returns what was wrong in the end; an empty text if nothing was."""
        problem = ""
        async with new_client(_TIMEOUT_S, self._headers, trust_env=False) as http:
            for number in range(_TRIES):
                if number:
                    await asyncio.sleep(_PAUSE_S * number)
                try:
                    response = await self._request(http, call)
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

    async def _request(self, http: Client, call: str) -> Response:
        url = self._url.format(call=quote(call, safe=""))
        headers = await self._authorize(http) if self._authorize is not None else {}
        return await http.request(self._method, url, json=self._body, headers=headers, auth=self._sign)
