"""The access log: one record for every request, without what it carried."""

import logging
import re
import secrets
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.server.connection import STATUS_NAME
from runtime.server.guard import KEY_NAME

log = logging.getLogger("netspec.access")

MAX_ID = 128
MODEL_PATH = re.compile(r"/(?:v2/models|v2/repository/models|v1/predict)/([^/]+)(?:/.*)?")
# The path of what is told of all models, where other paths have a model's name.
ALL_MODELS = "/v2/models/stats"


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own ``X-Request-ID`` where it is printable and not too long, else one that is drawn."""
    for name, value in headers:
        if name == b"x-request-id" and 0 < len(value) <= MAX_ID and value.isascii():
            text = value.decode()
            if text.isprintable():
                return text
    return secrets.token_hex(8)


def model_of(path: str) -> str | None:
    """The name of the model that a path is about, None where it is about none."""
    found = MODEL_PATH.fullmatch(path)
    return None if found is None or path == ALL_MODELS else found[1]


class AccessLog:
    """An ASGI application around another one, which writes a record for each request and gives it an id."""

    def __init__(self, app: ASGIApp) -> None:
        """Logs what `app` is asked."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has one request answered, and tells of it."""
        began = time.perf_counter()
        name = request_id(scope["headers"])
        status = 0
        sizes = {"in": 0, "out": 0}

        async def counted() -> Message:
            message = await receive()
            sizes["in"] += len(message.get("body", b""))
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name.encode())]}
            else:
                sizes["out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted, noted)
        finally:
            fields = {
                "protocol": "http",
                "method": scope["method"],
                "path": scope["raw_path"].decode("ascii", "backslashreplace"),
                "model": model_of(scope["path"]),
                "status": status or scope.get(STATUS_NAME, 0),
                "request_bytes": sizes["in"],
                "response_bytes": sizes["out"],
                "ms": round((time.perf_counter() - began) * 1000, 3),
                "key": scope.get(KEY_NAME),
                "client": scope["client"][0] if scope.get("client") else None,
                "request_id": name,
            }
            log.info("request", extra={"fields": {key: value for key, value in fields.items() if value is not None}})
