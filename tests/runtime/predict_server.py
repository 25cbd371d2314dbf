"""A server for the tests of predictions and of the page: the REST application with both beside the protocol."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request

from runtime.server.page.files import file_routes
from runtime.server.page.status import status_paths, status_route
from runtime.server.rest.app import build_app
from runtime.server.rest.bodies import BodyLimits
from runtime.server.rest.predict import predict_routes
from runtime.server.rest.predict_paths import predict_paths
from tests.runtime.rest_server import LIMITS, Served

ADMIN = {"X-API-Key": "admin"}


def is_admin(request: Request) -> bool:
    return request.headers.get("x-api-key") == ADMIN["X-API-Key"]


class ServedPage(Served):
    """The application with predictions and the page; those who send the header `ADMIN` may load and unload."""

    def __init__(self, models: Mapping[str, Path] | Path, limits: BodyLimits = LIMITS, **options: Any) -> None:
        super().__init__(models, limits, **options)
        self.has_keys = True
        page = [*file_routes(), status_route(self.repository, is_admin, lambda: self.has_keys)]
        routes = [*predict_routes(self.repository, self.bodies), *page]
        self.app = build_app(
            self.repository, self._workers, self.bodies, routes, lambda: predict_paths() | status_paths()
        )

    def predict(self, model: str, content: bytes, query: str = "", kind: str = "image/png", **headers: str) -> Any:
        """Asks a model about an image that is the body."""
        sent = {"content-type": kind, **headers}
        return self.post(f"/v1/predict/{model}{query}", content=content, headers=sent)


Serve = Callable[..., ServedPage]


@contextmanager
def serving() -> Iterator[Serve]:
    """Gives a function that serves models by name until the end."""
    servers: list[ServedPage] = []

    def serve(limits: BodyLimits = LIMITS, options: Mapping[str, Any] | None = None, **models: Path) -> ServedPage:
        servers.append(ServedPage(models, limits, **(options or {})))
        return servers[-1]

    try:
        yield serve
    finally:
        for server in servers:
            server.close()
