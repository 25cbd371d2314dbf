"""A server for the tests of REST: models of a repository, asked in process or over a socket of the loopback."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx

from runtime.protocol.model_config import read_config, read_override
from runtime.server.address import bind
from runtime.server.direct import Direct
from runtime.server.http import HttpServer
from runtime.server.limits import ConnectionLimits
from runtime.server.rest.app import App, build_app
from runtime.server.rest.bodies import Bodies, BodyLimits
from runtime.serving.options import ModelOptions
from runtime.serving.repository import Repository
from runtime.serving.sources import Files, Folder

T = TypeVar("T")
Answer = tuple[int, dict[bytes, bytes], bytes]
LIMITS = BodyLimits(max_body=200_000, max_pending=400_000, seconds=5)


class Served:
    """An application and the event loop that it runs on, in a thread of its own."""

    def __init__(self, models: Mapping[str, Path] | Path, limits: BodyLimits = LIMITS, **options: Any) -> None:
        """Serves files by their names, or a repository's folder."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._workers = ThreadPoolExecutor(2)
        chosen = ModelOptions(device="cpu", threads=1, **options)
        source = Folder(models, chosen, read_config) if isinstance(models, Path) else Files(models, chosen)
        self.repository = Repository(source, read_override)
        self.bodies = Bodies(limits, self._workers)
        self.app: App = build_app(self.repository, self._workers, self.bodies)
        self.run(self.repository.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """Ends everything."""
        self.run(self.repository.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._workers.shutdown()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks in process."""

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                client.headers.pop("accept-encoding")
                return await client.request(method, path, **options)

        return self.run(call())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def infer(self, *inputs: dict[str, Any], model: str = "m", **fields: Any) -> httpx.Response:
        """Asks a model with tensors as JSON."""
        return self.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **fields})

    def infer_raw(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Asks with nothing between the test and the application."""
        return self.run(self._infer(path, body, headers))

    def infer_together(self, path: str, bodies: Sequence[bytes]) -> list[Answer]:
        """Asks several times at once."""

        async def ask() -> list[Answer]:
            return list(await asyncio.gather(*(self._infer(path, body, {}) for body in bodies)))

        return self.run(ask())

    async def _infer(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        sent: list[Any] = []
        told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

        messages = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app({"type": "http", "method": "POST", "path": path, "headers": told}, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), bytes(sent[1]["body"])

    @contextlib.contextmanager
    def listening(self, direct: bool = True) -> Iterator[str]:
        """Listens on a port of the loopback while it is entered; gives ``host:port``.

        Inference goes the short way, as it does in a server without a log of requests, or else through the application.
        """
        listener = bind("127.0.0.1", 0)
        short = Direct(self.app.infer, lambda headers: None) if direct and isinstance(self.app, App) else None
        server = HttpServer(self.app, ConnectionLimits(), None, short)
        self.run(server.open(listener))
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            self.run(server.drain(0))


def error_of(response: httpx.Response, status: int) -> str:
    """The text of an error, which is all that its answer has."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])
