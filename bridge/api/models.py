"""``/v1/models``: the models that the upstreams answer for, as gateways and SDKs look for them.

The list has those that the configuration names. A call that asks for another one goes to the default upstream. That may
well know it, and only that service could tell.
"""

import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.body import json_response
from bridge.api.keys import Keys
from bridge.api.shapes import Model, ModelList
from bridge.errors import UnknownModel

__all__ = ["model_routes"]


def model_routes(owners: Callable[[], Mapping[str, str]], keys: Keys) -> list[Route]:
    """Makes the routes; they take every key that opens something here. ``owners`` tells who answers, by model."""
    created = int(time.time())

    async def list_models(request: Request) -> Response:
        await keys.admit(request.headers)
        return json_response(ModelList([Model(model, created, owner) for model, owner in owners().items()]))

    async def show_model(request: Request) -> Response:
        await keys.admit(request.headers)
        model = request.path_params["model"]
        owner = owners().get(model)
        if owner is None:
            raise UnknownModel(f"The model '{model[:64]}' does not exist here.", param="model")
        return json_response(Model(model, created, owner))

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
    ]
