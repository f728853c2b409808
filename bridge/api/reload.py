"""``POST /v1/config/reload``: the settings are read again, as SIGHUP does."""

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.api.operation import Operation
from bridge.config.reload import Changes
from bridge.errors import BadRequest, ConfigError

__all__ = ["OPERATIONS", "ConfigReload", "reload_route"]

_PATH = "/v1/config/reload"


class ConfigReload(Struct, frozen=True, kw_only=True):
    """The names of settings that had changed, by when the change counts."""

    object: str = "config.reload"
    live: tuple[str, ...]
    """The names of settings whose change counts at once."""
    new_calls: tuple[str, ...]
    """The names of settings whose change counts for calls and connections that begin from now on."""
    restart: tuple[str, ...]
    """The names of settings whose change counts when the daemon is started again; until then the old values count."""


OPERATIONS = [
    Operation(
        method="post",
        path=_PATH,
        summary="Reads the settings again. If anything is wrong with them, nothing changes. Needs an API key.",
        response=ConfigReload,
    )
]


def reload_route(admit: Callable[[Request], Awaitable[object]], reload: Callable[[], Awaitable[Changes]]) -> Route:
    """Makes the route; ``admit`` raises if a request may not change what concerns all calls."""

    async def serve(request: Request) -> Response:
        await admit(request)
        try:
            changes = await reload()
        except ConfigError as error:
            raise BadRequest(error.message, code=error.code, param=error.param) from None
        told = ConfigReload(live=changes.live, new_calls=changes.new_calls, restart=changes.restart)
        return JSONResponse(msgspec.to_builtins(told))

    return Route(_PATH, serve, methods=["POST"])
