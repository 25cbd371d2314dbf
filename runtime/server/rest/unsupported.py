"""Calls that clients have and that do not apply here: shared memory, traces, settings of the log.

Nothing is ever registered, so that questions for what is have an honest answer; the others are refused.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.server.rest.replies import json_reply
from runtime.serving.refused import Reason, Refused

KINDS = ("systemsharedmemory", "cudasharedmemory")


def unsupported_routes() -> list[Route]:
    """Their routes."""
    routes = [
        Route("/v2/logging", _refuse("the server's log is set up where it is started"), methods=["GET", "POST"]),
        Route("/v2/trace/setting", _refuse("there are no trace settings here"), methods=["GET", "POST"]),
        Route("/v2/models/{model}/trace/setting", _refuse("there are no trace settings here"), methods=["GET", "POST"]),
    ]
    for kind in KINDS:
        region = f"/v2/{kind}/region/{{region}}"
        routes += [
            Route(f"/v2/{kind}/status", _no_regions),
            Route(f"{region}/status", _no_region),
            Route(f"{region}/register", _refuse("there is no shared memory here"), methods=["POST"]),
            Route(f"{region}/unregister", _nothing_done, methods=["POST"]),
            Route(f"/v2/{kind}/unregister", _nothing_done, methods=["POST"]),
        ]
    return routes


def _refuse(message: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        raise Refused(Reason.UNSUPPORTED, message)

    return answer


async def _no_regions(request: Request) -> Response:
    return json_reply([]).response()


async def _no_region(request: Request) -> Response:
    raise Refused(Reason.NOT_FOUND, f"no region of shared memory is registered as '{request.path_params['region']}'")


async def _nothing_done(request: Request) -> Response:
    return json_reply({}).response()
