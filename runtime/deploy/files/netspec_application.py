"""A Ray Serve application of netspec's server: replicas that hold models, and a relay that asks them.

The relay passes requests on. When a replica dies with a request on it the relay asks another, and no client sees that.
Written by `netspec deploy ray`, run by `serve run serve.yaml`. API keys are in the environment, as elsewhere.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from runtime.protocol.model_config import read_config, read_override
from runtime.server.guard import Guard
from runtime.server.keys import ADMIN_VARIABLE, KEYS_VARIABLE, Keys, ring
from runtime.server.rest.app import build_app
from runtime.server.rest.bodies import Bodies, BodyLimits, ClientGone, Room
from runtime.server.rest.predict import predict_routes
from runtime.server.rest.predict_paths import predict_paths
from runtime.server.rest.replies import refusal
from runtime.serving.options import ModelOptions
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import Repository
from runtime.serving.sources import Folder

# A request that killed so many replicas is likely to be the reason.
ATTEMPTS = 3

Headers = Sequence[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


@dataclass
class Serving:
    """Models that are loaded, the application that asks them, and how many requests are with it."""

    repository: Repository
    app: ASGIApp
    requests: int = 0


class Models:
    """A replica: the models of a repository, behind the same application as `netspec serve` has."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(os.cpu_count())
        self._keys = Keys(ring(None, KEYS_VARIABLE), ring(None, ADMIN_VARIABLE), False)
        self._serving: Serving | None = None

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Loads the models of ``config["repository"]``; those that served until then answer what they were asked."""
        repository = Repository(Folder(Path(config["repository"]), ModelOptions(), read_config), read_override)
        broken = await repository.start()
        if broken or not repository.models():
            reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in broken)
            raise RuntimeError(f"the models of {config['repository']} can't be served: {reasons or 'there are none'}")
        before, self._serving = self._serving, Serving(repository, Guard(self._application(repository), self._keys))
        if before is not None:
            while before.requests:
                await asyncio.sleep(0.01)
            await before.repository.close()

    def _application(self, repository: Repository) -> ASGIApp:
        bodies = Bodies(BodyLimits(), self._workers)
        return build_app(repository, self._workers, bodies, predict_routes(repository, bodies), predict_paths)

    def check_health(self) -> None:
        """Raises when the replica should be replaced."""
        if self._serving is None or not self._serving.repository.models():
            raise RuntimeError("no model is ready")

    async def answer(self, scope: dict[str, Any], body: bytes) -> Answer:
        """What the application answers to a request with this body."""
        received = iter([{"type": "http.request", "body": body}])
        sent: list[Message] = []

        async def receive() -> Message:
            if (message := next(received, None)) is not None:
                return message
            await asyncio.Event().wait()  # a client that goes away cancels the whole call
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        assert self._serving is not None  # a replica is asked when it is configured
        serving = self._serving
        serving.requests += 1
        try:
            await serving.app(scope, receive, send)
        finally:
            serving.requests -= 1
        head, *parts = sent
        return head["status"], head["headers"], b"".join(part.get("body", b"") for part in parts)


class Relay:
    """What the cluster's HTTP proxies ask."""

    def __init__(self, models: DeploymentHandle) -> None:
        self._models = models
        self._bodies = Bodies(BodyLimits(), ThreadPoolExecutor(1))

    async def __call__(self, request: Request) -> Response:
        """Answers a request, from another replica where one dies with it."""
        if request.method == "POST" and request.url.path.startswith("/v2/repository/models/"):
            alone = "one replica of many would follow: change the models by `serve deploy`"
            return refusal(Refused(Reason.UNSUPPORTED, alone)).response()
        # Compressed bodies are passed on as they are.
        sent = {name: value for name, value in request.headers.raw if name != b"content-encoding"}
        try:
            with Room(self._bodies) as room:
                body = await self._bodies.read(sent, request.receive, room)
                status, headers, answer = await self._ask(_plain(request.scope), bytes(body))
        except Refused as refused:
            return refusal(refused).response()
        except ClientGone:
            return Response(status_code=400)  # which nobody reads
        response = Response(answer, status)
        response.raw_headers = list(headers)
        return response

    async def _ask(self, scope: dict[str, Any], body: bytes) -> Answer:
        for _ in range(ATTEMPTS):
            try:
                answer: Answer = await self._models.answer.remote(scope, body)
                return answer
            except RayActorError:
                continue
            except BackPressureError:
                raise Refused(Reason.OVERLOADED, "all replicas are busy; try again later", retry_after=1) from None
        raise Refused(Reason.INTERNAL, f"{ATTEMPTS} replicas died over this request")


def _plain(scope: Any) -> dict[str, Any]:
    """The parts of an ASGI scope that say what is asked, and that can be sent to another process."""
    kept = ("type", "http_version", "method", "path", "raw_path", "query_string", "headers", "scheme")
    return {key: scope[key] for key in kept if key in scope} | {"root_path": ""}


application = serve.deployment(Relay, name="relay").bind(serve.deployment(Models, name="models").bind())
