"""Telnyx's HTTP API, for the one thing that a media stream cannot say: hang up.

Closing a stream leaves the caller on the line, in silence and at somebody's cost.
"""

import asyncio
from urllib.parse import quote

from bridge.log import get_logger
from bridge.outgoing import HTTPError, new_client

__all__ = ["TelnyxApi"]

_log = get_logger("telephony")

_URL = "https://api.telnyx.com/v2"
_TIMEOUT_S = 5.0
_TRIES = 3
_PAUSE_S = 0.5
_AGAIN = (429, 500, 502, 503, 504)
_GONE = (404, 422)  # the call is not there, or over: just what was wanted


class TelnyxApi:
    """With an account's key; ``failures`` counts calls that may still be up."""

    def __init__(self, api_key: str) -> None:
        self.failures = 0
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def hang_up(self, call_control_id: str) -> None:
        """Ends the call, with a few tries; never raises."""
        problem = ""
        async with new_client(_TIMEOUT_S, self._headers, trust_env=False) as http:
            for number in range(_TRIES):
                if number:
                    await asyncio.sleep(_PAUSE_S * number)
                try:
                    response = await http.post(_address(call_control_id), json={})
                except HTTPError as error:
                    problem = type(error).__name__
                    continue
                if response.is_success or response.status_code in _GONE:
                    return
                problem = f"HTTP {response.status_code}"
                if response.status_code not in _AGAIN:
                    break
        self.failures += 1
        _log.warning("telephony.hang_up_failed", carrier="telnyx", problem=problem)


def _address(call_control_id: str) -> str:
    return f"{_URL}/calls/{quote(call_control_id, safe='')}/actions/hangup"
