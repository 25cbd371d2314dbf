"""The routes that tell of the server and its models."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.protocol.config_reply import config_json
from runtime.protocol.description import model_metadata, model_statistics, server_metadata
from runtime.server.rest.replies import STOPPING, json_reply, refusal
from runtime.serving.model import ServedModel
from runtime.serving.repository import Repository


def model_routes(repository: Repository) -> list[Route]:
    """Health, metadata, configurations and statistics."""
    server = server_metadata()

    async def tell_server(request: Request) -> Response:
        return json_reply(server).response()

    async def live(request: Request) -> Response:
        return json_reply({"live": True}).response()

    async def ready(request: Request) -> Response:
        return (json_reply({"ready": True}) if repository.ready() else refusal(STOPPING)).response()

    async def all_statistics(request: Request) -> Response:
        return json_reply(model_statistics(repository.models())).response()

    async def statistics(request: Request) -> Response:
        model = asked_model(repository, request)
        versions = [model] if "version" in request.path_params else repository.models()
        return json_reply(model_statistics(each for each in versions if each.name == model.name)).response()

    def of_model(tell: Callable[[ServedModel], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return json_reply(tell(asked_model(repository, request))).response()

        return answer

    routes = [
        Route("/v2", tell_server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/stats", all_statistics),
    ]
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(prefix, of_model(lambda model: model_metadata(model, repository.versions(model.name)))),
            Route(f"{prefix}/ready", of_model(lambda model: {"name": model.name, "ready": True})),
            Route(f"{prefix}/config", of_model(config_json)),
            Route(f"{prefix}/stats", statistics),
            Route(f"{prefix}/infer", _never, methods=["POST"]),
        ]
    return routes


def asked_model(repository: Repository, request: Request) -> ServedModel:
    """The model that a request's path names.

    Raises:
        Refused: it isn't there, or doesn't serve now.
    """
    return repository.model(request.path_params["model"], request.path_params.get("version", ""))


async def _never(request: Request) -> Response:
    """Stands for inference, so that other verbs on it are answered with the right one."""
    raise AssertionError("inference never comes here")
