"""The ASGI application: inference straight through, everything else on Starlette."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.rest.bodies import Bodies
from runtime.server.rest.infer import Infer
from runtime.server.rest.models import model_routes
from runtime.server.rest.openapi import Paths, openapi_route
from runtime.server.rest.replies import INTERNAL, JSON, STOPPING, Reply, error_body, refusal
from runtime.server.rest.repository import repository_routes
from runtime.server.rest.unsupported import unsupported_routes
from runtime.serving.refused import Refused
from runtime.serving.repository import Repository

MODELS = "/v2/models/"
INFER = "/infer"


class App:
    """The application that serves the models of a repository.

    Attributes:
        infer: what answers inference requests.
    """

    def __init__(self, infer: Infer, others: ASGIApp) -> None:
        self.infer = infer
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Inference skips Starlette's routing, which would cost more than its own overhead."""
        if scope["type"] == "http" and scope["method"] == "POST" and (asked := asked_model(scope["path"])):
            await self.infer(scope, receive, send, *asked)
        else:
            await self._answer_others(scope, receive, send)

    async def _answer_others(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is no inference; a stopping server gives up on what takes too long, and says so."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._others(scope, receive, noted)
        except asyncio.CancelledError:
            if has_begun:
                raise
            await refusal(STOPPING).send(send)


def build_app(
    repository: Repository,
    workers: Executor,
    bodies: Bodies,
    routes: Sequence[BaseRoute] = (),
    paths: Callable[[], Paths] = dict,
) -> App:
    """The application, to be wrapped in what looks after keys and logs.

    Args:
        repository: the models.
        workers: threads in which large requests are read and large answers written.
        bodies: what the bodies of all requests take together; those of `routes` are to be read by it too.
        routes: what else is served, such as the page, metrics and predictions.
        paths: gives what of that stands in the OpenAPI document, when somebody asks for it.
    """
    app = Starlette(
        routes=[
            *model_routes(repository),
            *repository_routes(repository, bodies),
            *unsupported_routes(),
            openapi_route(paths),
            *routes,
        ],
        exception_handlers={Refused: _refused, HTTPException: _http_error, Exception: _internal_error},
    )
    app.router.redirect_slashes = False
    return App(Infer(repository, bodies, workers), app)


def asked_model(path: str) -> tuple[str, str] | None:
    """The model and version (empty for the newest) whose inference a path names, None for another path."""
    if not path.startswith(MODELS) or not path.endswith(INFER):
        return None
    match path[len(MODELS) : -len(INFER)].split("/"):
        case [name]:
            return name, ""
        case [name, "versions", version]:
            return name, version
    return None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error).response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
    elif error.status_code == 404 and message == "Not Found":  # Starlette's own words, for a path that it has not
        message = f"there is nothing at {request.url.path}"
    headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
    return Reply(error.status_code, error_body(message), (JSON, *headers)).response()


async def _internal_error(request: Request, error: Exception) -> Response:
    return refusal(INTERNAL).response()
