"""The routes that tell what the repository has, and that load and unload models."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.protocol.description import index
from runtime.protocol.parameters import check_unload, load_config
from runtime.protocol.tensors import invalid, shown
from runtime.server.rest.bodies import Bodies, told_length
from runtime.server.rest.json_text import check_size, read_json
from runtime.server.rest.replies import json_reply
from runtime.serving.repository import Repository

# In a body, a model's configuration as text in it.
MOST_VALUES = 2**16


def repository_routes(repository: Repository, bodies: Bodies) -> list[Route]:
    """The repository's index, loading and unloading."""

    async def tell_index(request: Request) -> Response:
        asked = await _asked(request, bodies)
        ready = asked.get("ready", False)
        if not isinstance(ready, bool):
            raise invalid(f"'ready' is {shown(ready)}, neither true nor false")
        return json_reply(index(repository.index(), ready)).response()

    async def load(request: Request) -> Response:
        config = load_config(_parameters(await _asked(request, bodies)))
        await repository.load(request.path_params["model"], config)
        return json_reply({}).response()

    async def unload(request: Request) -> Response:
        check_unload(_parameters(await _asked(request, bodies)))
        await repository.unload(request.path_params["model"])
        return json_reply({}).response()

    return [
        Route("/v2/repository/index", tell_index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
    ]


async def _asked(request: Request, bodies: Bodies) -> dict[str, Any]:
    """The JSON object that is sent, empty where nothing is."""
    headers = dict(request.scope["headers"])
    with bodies.room(told_length(headers)) as room:
        body = await bodies.read(headers, request.receive, room)
        if not body:
            return {}
        check_size(body, MOST_VALUES)
        asked = read_json(body)
    if not isinstance(asked, dict):
        raise invalid("the request is not a JSON object")
    return asked


def _parameters(asked: dict[str, Any]) -> dict[str, Any]:
    parameters = asked.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid("'parameters' is not an object")
    return parameters
