"""The OpenAPI document: every route, what it takes, and what it answers."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.protocol.description import server_metadata
from runtime.server.rest.replies import Reply
from runtime.server.rest.schemas import COUNT, SCHEMAS, STRING, Schema, reference

Paths = Mapping[str, Mapping[str, Any]]

ERRORS = {
    400: "The request is wrong, or asks for what this server does not do; the text names the field.",
    401: "A key is needed, or nobody has the one given.",
    403: "The key given may not do this.",
    404: "There is no such model, version or region.",
    408: "The body takes too long to arrive.",
    413: "The body is larger than the server takes.",
    415: "The body is compressed in a way that the server does not know.",
    500: "A failure of the server; its log says more.",
    503: "Not now: the queue is full, the request waited too long, the model isn't ready, or the server stops.",
}
# What can go wrong with any request, with one about a model, and with one that has a body.
ALWAYS = (401, 500, 503)
OF_MODEL = (*ALWAYS, 404)
OF_BODY = (*ALWAYS, 400, 408, 413, 415)
OF_BOTH = (*OF_BODY, 404)
OF_ADMIN = (*OF_BOTH, 403)

# Probes have no keys.
OPEN: Schema = {"security": []}

ENCODING: Schema = {
    "name": "Content-Encoding",
    "in": "header",
    "schema": {"type": "string", "enum": ["identity", "gzip", "deflate"]},
}
JSON_SIZE: Schema = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "How much of the body is JSON, where bytes follow it; 0 where all of it is the only input's bytes.",
    "schema": COUNT,
}


def openapi_route(more: Paths) -> Route:
    """The document at ``/openapi.json``; see `document`."""
    text = orjson.dumps(document(more))

    async def tell(request: Request) -> Response:
        return Reply(200, text).response()

    return Route("/openapi.json", tell)


def document(more: Paths) -> dict[str, Any]:
    """The document, with the paths of other routes beside those of the protocol."""
    server = server_metadata()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": server["name"],
            "version": server["version"],
            "description": "The Open Inference Protocol V2 with Triton's extensions: "
            + ", ".join(server["extensions"]),
        },
        "paths": {**_server_paths(), **_model_paths(), **_repository_paths(), **_unsupported_paths(), **more},
        "components": {
            "schemas": SCHEMAS,
            "responses": {str(status): _error(status) for status in ERRORS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # Where the server was started without keys, none is asked for.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _server_paths() -> dict[str, Any]:
    return {
        "/openapi.json": {"get": operation("This document", {"type": "object"})},
        "/v2": {"get": operation("The server's name, version and extensions", "Server")},
        "/v2/health/live": {"get": operation("Whether the server lives", "Live") | OPEN},
        "/v2/health/ready": {"get": operation("Whether the server takes requests", "Ready") | OPEN},
        "/v2/models/stats": {"get": operation("The statistics of all models", "Statistics")},
    }


def _model_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for version in ("", "/versions/{version}"):
        prefix = "/v2/models/{model}" + version
        named = path_parameters("model", "version") if version else path_parameters("model")
        paths |= {
            prefix: {"get": operation("A model's inputs and outputs", "Model", OF_MODEL), **named},
            f"{prefix}/ready": {"get": operation("Whether a model answers", "ModelReady", OF_MODEL) | OPEN, **named},
            f"{prefix}/config": {"get": operation("How a model is served", "Config", OF_MODEL), **named},
            f"{prefix}/stats": {"get": operation("What happened to its requests", "Statistics", OF_MODEL), **named},
            f"{prefix}/infer": {"post": _inference(), **named},
        }
    return paths


def _inference() -> dict[str, Any]:
    about = operation("Inference", "Answer", OF_BOTH, "Request", needed=True)
    binary = {"schema": {"description": "JSON, and then tensors as little-endian bytes in the order of the JSON."}}
    about["requestBody"]["content"]["application/octet-stream"] = binary
    about["responses"]["200"]["content"]["application/octet-stream"] = binary
    about["responses"]["200"]["headers"] = {
        "Inference-Header-Content-Length": {"description": "How much of the body is JSON.", "schema": COUNT}
    }
    about["parameters"] = [JSON_SIZE, ENCODING]
    return about


def _repository_paths() -> dict[str, Any]:
    named = path_parameters("model")
    prefix = "/v2/repository/models/{model}"
    return {
        "/v2/repository/index": {
            "post": operation("The models that there are, and their states", "Index", OF_BODY, "IndexRequest")
        },
        f"{prefix}/load": {
            "post": operation("Load a model, or load it again", "Nothing", OF_ADMIN, "LoadRequest"),
            **named,
        },
        f"{prefix}/unload": {"post": operation("Unload a model", "Nothing", OF_ADMIN, "UnloadRequest"), **named},
    }


def _unsupported_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    refused = {"get": _refused(), "post": _refused()}
    paths["/v2/logging"] = refused
    paths["/v2/trace/setting"] = refused
    paths["/v2/models/{model}/trace/setting"] = {**refused, **path_parameters("model")}
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        region, named = f"/v2/{kind}/region/{{region}}", path_parameters("region")
        paths |= {
            f"/v2/{kind}/status": {"get": operation("The regions of shared memory: none", "NoRegions")},
            f"/v2/{kind}/unregister": {"post": operation("Unregister all regions: nothing to do", "Nothing")},
            f"{region}/status": {"get": _refused(404), **named},
            f"{region}/register": {"post": _refused(), **named},
            f"{region}/unregister": {"post": operation("Unregister a region: nothing to do", "Nothing"), **named},
        }
    return paths


def _refused(status: int = 400) -> dict[str, Any]:
    return {"summary": "Not supported", "responses": _errors((*ALWAYS, status))}


def operation(
    summary: str,
    answer: str | Schema,
    errors: Iterable[int] = ALWAYS,
    request: str | None = None,
    needed: bool = False,
) -> dict[str, Any]:
    """One operation: what it is for, the schema of its answer, its errors, and the schema of its JSON request."""
    about: dict[str, Any] = {"summary": summary, "responses": {"200": _response(summary, answer), **_errors(errors)}}
    if request is not None:
        content = {"application/json": {"schema": reference(request)}}
        about["requestBody"] = {"required": needed, "content": content}
        about["parameters"] = [ENCODING]
    return about


def path_parameters(*names: str) -> dict[str, Any]:
    """The parts of a path that are chosen, all of them texts."""
    return {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": STRING} for name in names],
    }


def _response(text: str, schema: str | Schema) -> dict[str, Any]:
    content = reference(schema) if isinstance(schema, str) else schema
    return {"description": text, "content": {"application/json": {"schema": content}}}


def _error(status: int) -> dict[str, Any]:
    response = _response(ERRORS[status], "Error")
    if status == 503:
        response["headers"] = {"Retry-After": {"description": "Seconds, where they can be told.", "schema": COUNT}}
    return response


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
