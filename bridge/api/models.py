"""``/v1/models``: the models that the upstreams answer for, as gateways and SDKs look for them.

Listed are those that the configuration names. A call that asks for another one goes to the default upstream, which may
well know it; only that service could tell.
"""

import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.api.keys import Keys
from bridge.errors import UnknownModel

__all__ = ["model_routes"]


def model_routes(owners: Callable[[], Mapping[str, str]], keys: Keys) -> list[Route]:
    """The routes; they take every key that opens something here. ``owners`` tells who answers, by model."""
    created = int(time.time())

    def models() -> dict[str, dict[str, object]]:
        return {
            model: {"id": model, "object": "model", "created": created, "owned_by": owner}
            for model, owner in owners().items()
        }

    async def list_models(request: Request) -> Response:
        await keys.admit(request.headers)
        return JSONResponse({"object": "list", "data": list(models().values())})

    async def show_model(request: Request) -> Response:
        await keys.admit(request.headers)
        model = request.path_params["model"]
        known = models()
        if model not in known:
            raise UnknownModel(f"The model '{model[:64]}' does not exist here.", param="model")
        return JSONResponse(known[model])

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
    ]
