"""Transfers a call by its carrier's HTTP API: the carrier connects the caller to somebody else, without the bridge."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from bridge.errors import BadRequest, UpstreamError
from bridge.outgoing import Client, HTTPError, new_client

__all__ = ["CallTransfer", "HttpTransfer"]

_TIMEOUT_S = 10.0
_MAX_CALL_ID = 256


class CallTransfer(Protocol):
    """The way in which a carrier transfers calls."""

    async def transfer(self, call: str, target_uri: str) -> None:
        """Connects the call with this id, which is the carrier's, to a ``tel:`` or ``sip:`` URI.

        Raises ``BadRequest`` if the carrier refuses, ``UpstreamError`` if it does not answer.
        """
        ...


class HttpTransfer:
    """Transfers calls by a request to ``url``, in which ``{call}`` stands for the carrier's id of the call.

    ``body`` makes what the request brings of the URI: JSON, or a form with ``is_form``, or XML if it returns a text.
    ``authorize`` makes headers that are new each time. The request is sent once, because a carrier that did not answer
    may have transferred the call.
    """

    def __init__(
        self,
        carrier: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        body: Callable[[str], Mapping[str, Any] | str],
        method: str = "POST",
        is_form: bool = False,
        authorize: Callable[[Client], Awaitable[Mapping[str, str]]] | None = None,
    ) -> None:
        self._carrier = carrier
        self._url = url
        self._headers = dict(headers or {})
        self._body = body
        self._method = method
        self._is_form = is_form
        self._authorize = authorize

    async def transfer(self, call: str, target_uri: str) -> None:
        """Transfers the call by one request; see ``CallTransfer``."""
        if not call.strip(".") or len(call) > _MAX_CALL_ID:  # an id of dots alone would lead a step up in the path
            raise BadRequest("The carrier's call id is not valid.", code="refer_failed", param="call_id")
        said = self._body(target_uri)
        content: dict[str, Any] = {"data": said} if self._is_form else {"json": said}
        if isinstance(said, str):
            content = {"content": said.encode()}
        try:
            async with new_client(_TIMEOUT_S, self._headers, trust_env=False) as http:
                headers = dict(await self._authorize(http)) if self._authorize is not None else {}
                if isinstance(said, str):
                    headers["Content-Type"] = "application/xml"
                url = self._url.format(call=quote(call, safe=""))
                response = await http.request(self._method, url, headers=headers, **content)
        except (HTTPError, ValueError) as error:  # ValueError: the answer to the request for a token held none
            reason = f"{self._carrier} cannot be reached: {str(error) or type(error).__name__}"
            raise UpstreamError(reason, code="refer_failed") from error
        if response.is_success:
            return
        reason = f"{self._carrier} did not transfer the call: it answered with HTTP status {response.status_code}."
        if response.status_code < 500:
            raise BadRequest(reason, code="refer_failed", param="target_uri")
        raise UpstreamError(reason, code="refer_failed")
