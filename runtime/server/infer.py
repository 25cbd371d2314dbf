"""The inference endpoint: plain ASGI, since this is the path where every microsecond is paid per request."""

import asyncio
import logging
from concurrent.futures import Executor

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from runtime.errors import InputError
from runtime.server.reply import write_error, write_reply
from runtime.server.request import read_request
from runtime.session import Session

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is turned away before its JSON is looked at, with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Infer:
    """Answers ``POST …/infer``.

    Reading the JSON, running the model and writing the reply all happen in a thread of `workers`, so that a large
    request never keeps the event loop from answering others.
    """

    def __init__(self, session: Session, name: str, workers: Executor, max_body: int) -> None:
        """Serves `session` as the model `name`, with bodies of at most `max_body` bytes."""
        self._session = session
        self._name = name
        self._workers = workers
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads one request and sends its answer; a client that has gone gets none."""
        try:
            body = await self._body(Headers(scope=scope), receive)
            if body is None:
                return
            status, reply = await asyncio.get_running_loop().run_in_executor(self._workers, self.answer, body)
        except Refusal as refusal:
            status, reply = refusal.status, write_error(str(refusal))
        except asyncio.CancelledError:  # a stopping server gives up on what takes too long to arrive or to finish
            status, reply = 503, write_error("the server is stopping")
        await _send(send, status, reply)

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """The HTTP status and JSON that answer the JSON in `body`."""
        try:
            request = read_request(body, self._session.inputs)
            outputs = self._session.run(request.feeds, request.outputs)
            return 200, write_reply(self._name, request.id, outputs)
        except InputError as error:
            return 400, write_error(error.message)
        except Exception:
            log.exception("an inference failed")
            return 500, write_error("internal error; the server's log says more")

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, None where the client went away before its end."""
        if "inference-header-content-length" in headers:
            raise Refusal(400, "binary tensors are not supported yet: send the tensors as JSON")
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "compressed bodies are not supported")
        too_large = Refusal(413, f"the body is larger than {self._max_body} bytes")
        if int(headers.get("content-length", 0)) > self._max_body:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise too_large
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
