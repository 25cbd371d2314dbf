"""The server's routes: health and metadata on Starlette, inference straight through."""

from collections.abc import Mapping
from concurrent.futures import Executor
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runtime.protocol.datatypes import DATATYPES
from runtime.server.infer import Infer
from runtime.server.reply import VERSION, write_error
from runtime.session import Session
from runtime.tensors import TensorSpec

# Room for an image of 3 × 2048 × 2048 numbers, five characters each.
DEFAULT_MAX_BODY = 64 * 2**20


class App:
    """The ASGI application that serves one model under version 1."""

    def __init__(self, session: Session, name: str, workers: Executor, max_body: int = DEFAULT_MAX_BODY) -> None:
        """Serves `session` as the model `name`; inference runs in `workers`, on bodies of at most `max_body` bytes."""
        self._infer = Infer(session, name, workers, max_body)
        self._infer_paths = {f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/{VERSION}/infer"}
        self._rest = _rest(session, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Inference skips Starlette's routing, which would cost more than its own overhead."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._infer_paths:
            await self._infer(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


def _rest(session: Session, name: str) -> Starlette:
    """Every route but the served model's inference; other verbs on that, and inference by other models, end here."""
    server = {"name": "netspec", "version": _version(), "extensions": []}
    model = {
        "name": name,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [_signature(spec) for spec in session.inputs],
        "outputs": [_signature(spec) for spec in session.outputs],
    }

    def check_model(request: Request) -> None:
        asked = request.path_params
        if asked["model"] != name:
            raise HTTPException(404, f"there is no model '{asked['model']}' here; the model is '{name}'")
        if asked.get("version", VERSION) != VERSION:
            raise HTTPException(404, f"the model '{name}' has no version '{asked['version']}'; it has {VERSION}")

    async def server_metadata(request: Request) -> Response:
        return _json(server)

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        return _json({"ready": True})

    async def model_metadata(request: Request) -> Response:
        check_model(request)
        return _json(model)

    async def model_ready(request: Request) -> Response:
        check_model(request)
        return _json({"name": name, "ready": True})

    async def elsewhere(request: Request) -> Response:
        check_model(request)
        raise AssertionError("the inference of the served model never comes here")

    routes = [
        Route("/v2", server_metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(prefix, model_metadata),
            Route(f"{prefix}/ready", model_ready),
            Route(f"{prefix}/infer", elsewhere, methods=["POST"]),
        ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _internal_error})
    app.router.redirect_slashes = False
    return app


def _version() -> str:
    try:
        return version("netspec")
    except PackageNotFoundError:  # it runs from a tree of sources
        return "unknown"


def _signature(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _json(value: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
    elif error.status_code == 404 and message == "Not Found":  # Starlette's own words, for a path that it has not
        message = f"there is nothing at {request.url.path}"
    return Response(write_error(message), error.status_code, error.headers, "application/json")


async def _internal_error(request: Request, error: Exception) -> Response:
    return Response(write_error("internal error; the server's log says more"), 500, media_type="application/json")
