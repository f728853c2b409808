"""Logs who is turned away: for wrong keys, what is not allowed, limits, or because the server takes nothing new.

The first refusal is written at once. If others follow with the same reason, one line a second says how many there were.
Other refusals (400, 404 and the like) concern their sender alone, and fill no log.
"""

import time

from starlette.types import Scope

from bridge.context import address_of
from bridge.errors import REFUSED_CODE, BridgeError
from bridge.log import Tally, get_logger

__all__ = ["tell_refusal"]

_log = get_logger("api")

_TOLD = frozenset({401, 403, 429, 503})
_UNMATCHED = "unmatched"


_tally = Tally()


def tell_refusal(error: BridgeError, scope: Scope) -> None:
    """Logs that ``error`` answers the request of ``scope``."""
    scope[REFUSED_CODE] = error.code
    if error.http_status not in _TOLD:
        return
    route = getattr(scope.get("route"), "path", _UNMATCHED)
    count = _tally.count_repeat(f"{error.code} {route}", time.monotonic())
    if count is not None:
        _log.warning("api.refused", status=error.http_status, code=error.code, message=error.message, route=route,
                     sender=address_of(scope.get("client")), count=count)  # fmt: skip
