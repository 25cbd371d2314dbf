"""The two doors of the server, HTTP and gRPC, with what stands before and behind them.

This imports what the models need nothing of, and so is imported while they load.
"""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from runtime.server.access import AccessLog
from runtime.server.direct import Direct
from runtime.server.guard import Guard, check_user, may_administer
from runtime.server.hosts import Hosts
from runtime.server.http import HttpServer
from runtime.server.keys import Keys
from runtime.server.late import Late
from runtime.server.limits import ConnectionLimits
from runtime.server.page.files import file_routes
from runtime.server.rest.app import App, build_app
from runtime.server.rest.bodies import Bodies, BodyLimits
from runtime.server.rest.openapi import Paths
from runtime.server.settings import Settings
from runtime.serving.repository import Repository

if TYPE_CHECKING:  # only who asks for TLS waits for it
    from runtime.server.tls import Shown


def other_paths() -> Paths:
    """What is served beside the protocol, for the OpenAPI document; the page itself is for people."""
    # None of this is needed before the document is.
    from runtime.server.metrics import metrics_paths
    from runtime.server.page.status import status_paths
    from runtime.server.rest.predict_paths import predict_paths

    return {**metrics_paths(), **predict_paths(), **status_paths()}


class Front:
    """Answers HTTP and gRPC from a repository, from `open` until `close`."""

    def __init__(
        self, repository: Repository, settings: Settings, keys: Keys, limits: ConnectionLimits, tracing: Any | None
    ) -> None:
        """Prepares to answer as the settings say; `tracing` is a `runtime.server.tracing.Tracing` or None."""
        self._repository = repository
        self._settings = settings
        self._keys = keys
        self._hosts = Hosts(keys, settings.host)
        self._limits = limits
        self._tracing = tracing
        self._workers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="bodies")
        self._rpc: Any = None
        if settings.rpc_port is not None:
            # Whoever turns gRPC off needs not wait for it.
            from runtime.server.rpc_door import open_rpc

            self._open_rpc = open_rpc

    async def open(self, listener: socket.socket, shown: Shown | None) -> None:
        """Begins to answer HTTP on a bound socket, over TLS where certificates are shown; raises AddressError."""
        bodies = Bodies(BodyLimits(self._settings.max_body, self._settings.max_pending), self._workers)
        app = build_app(self._repository, self._workers, bodies, self._routes(bodies), other_paths)
        self._http = HttpServer(
            self._guarded(app), self._limits, None if shown is None else shown.context, self._direct(app)
        )
        await self._http.open(listener)

    async def open_rpc(self, listener: socket.socket, shown: Shown | None) -> int:
        """Begins to answer gRPC at the address that a bound socket holds; returns its port; raises AddressError."""
        self._rpc = await self._open_rpc(self._repository, self._settings, self._keys, self._tracing, listener, shown)
        return int(self._rpc.port)

    async def close(self, seconds: float) -> None:
        """Takes no more requests, and returns when those accepted are answered or the seconds are over."""
        deadline = asyncio.get_running_loop().time() + seconds
        doors = [self._http.drain(deadline)]
        if self._rpc is not None:
            doors.append(self._rpc.stop(seconds))
        await asyncio.gather(*doors)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, inner: App) -> ASGIApp:
        """The application with what stands before it."""
        app: ASGIApp = Guard(inner, self._keys, self._hosts)
        if self._settings.access_log:
            app = AccessLog(app)
        if self._tracing is not None:
            # Asked for by an option, and an extra, so that nobody else waits for it.
            from runtime.server.tracing import Traced

            app = Traced(app, self._tracing)
        return app

    def _direct(self, app: App) -> Direct | None:
        """The shorter way for inference, where nobody wants to hear of every request."""
        if self._settings.access_log or self._tracing is not None:
            return None
        return Direct(app.infer, lambda headers: check_user(self._keys, self._hosts, headers))

    def _routes(self, bodies: Bodies) -> list[BaseRoute]:
        """What is served beside the protocol."""
        return [
            Late("/metrics", self._metrics),
            Late("/v1/predict", lambda: self._predictions(bodies)),
            Late("/v1/status", self._status),
            *file_routes(),
        ]

    def _metrics(self) -> list[Route]:
        # Whoever isn't watched needs no client of Prometheus.
        from runtime.server.metrics import metrics_routes

        return metrics_routes(self._repository, lambda: self._http.connections)

    def _predictions(self, bodies: Bodies) -> list[Route]:
        # Nor does whoever is asked in tensors need what reads and draws images.
        from runtime.server.rest.predict import predict_routes

        return predict_routes(self._repository, bodies)

    def _status(self) -> list[Route]:
        # What the page shows of a model is told by what answers images.
        from runtime.server.page.status import status_route

        def may_act(request: Request) -> bool:
            return may_administer(self._keys, request.scope["headers"])

        return [status_route(self._repository, may_act, lambda: self._keys.is_any)]
