"""``/v1/models``: the models that the upstreams answer for, as gateways and SDKs look for them.

Listed are those that the configuration names. A call that asks for another one goes to the default upstream, which may
well know it; only that service could tell.
"""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.api.keys import Keys
from bridge.config import Config
from bridge.errors import UnknownModel

__all__ = ["model_routes", "models_of"]


def models_of(config: Config, default_model: str) -> dict[str, str]:
    """The names that a call may ask for, and the upstream that answers each; the default one first."""
    named = {model: name for name, given in config.upstreams.items() for model in given.models}
    default = config.upstream if config.upstream in ("local", "agent", *config.upstreams) else "upstream"
    return {default_model: named.get(default_model, default), **named}


def model_routes(config: Config, keys: Keys, default_model: str) -> list[Route]:
    """The routes; they take every key that opens something here."""
    created = int(time.time())
    models = {
        model: {"id": model, "object": "model", "created": created, "owned_by": owner}
        for model, owner in models_of(config, default_model).items()
    }

    async def list_models(request: Request) -> Response:
        keys.admit(request.headers)
        return JSONResponse({"object": "list", "data": list(models.values())})

    async def show_model(request: Request) -> Response:
        keys.admit(request.headers)
        model = request.path_params["model"]
        if model not in models:
            raise UnknownModel(f"The model '{model[:64]}' does not exist here.", param="model")
        return JSONResponse(models[model])

    return [
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
    ]
