"""Calls over gRPC in the log and in traces: what `AccessLog` and `Traced` are for HTTP."""

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Any, Protocol

import grpc

from runtime.server.access import request_id
from runtime.server.rpc.received import Received
from runtime.server.rpc_guard import MAKERS, OPEN_METHODS, caller

log = logging.getLogger("netspec.access")

# Has a call, of these details, first message (None of a stream) and context, answered within it.
Watch = Callable[[Any, Any, Any], AbstractContextManager[None]]


class RpcWatch:
    """An interceptor that has every call answered within a context of `watch`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def intercept_service(self, go_on: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """The handler of a call, within the watch."""
        handler = await go_on(call)
        if handler is None:  # there is no such method, and grpc says so
            return None
        streams = (handler.request_streaming, handler.response_streaming)
        names = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}
        inner = getattr(handler, names.get(streams, "stream_unary"))

        async def answer(request: Any, context: Any) -> Any:
            with self._watch(call, None if streams[0] else request, context):
                return await inner(request, context)

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._watch(call, None if streams[0] else request, context):
                async with aclosing(inner(request, context)) as replies:
                    async for reply in replies:
                        yield reply

        outer = answers if inspect.isasyncgenfunction(inner) else answer
        return MAKERS[streams](outer, handler.request_deserializer, handler.response_serializer)


grpc.aio.ServerInterceptor.register(RpcWatch)


@contextmanager
def access_record(call: Any, request: Any, context: Any) -> Iterator[None]:
    """Writes a record of a call, without what it carried."""
    began = time.perf_counter()
    client = context.peer()  # not afterwards: gRPC frees a call that is cancelled, and reads what it has freed
    try:
        yield
    finally:
        fields = {
            "protocol": "grpc",
            "method": method_of(call),
            "model": model_of(request),
            "status": _status(context).name,
            "request_bytes": request.size if isinstance(request, Received) else None,
            "ms": round((time.perf_counter() - began) * 1000, 3),
            "key": caller.get(),
            "client": client,
            "request_id": request_id((key.encode(), value.encode()) for key, value in texts(call)),
        }
        log.info("request", extra={"fields": {key: value for key, value in fields.items() if value is not None}})


class RpcTracing(Protocol):
    """What of `runtime.server.tracing.Tracing` is needed here, which is imported only where traces are asked for."""

    def request(self, name: str, headers: dict[str, str], attributes: dict[str, str]) -> AbstractContextManager[Any]:
        """A span around a request."""


def traced(tracing: RpcTracing) -> Watch:
    """Has every call but the probes answered within a span."""

    @contextmanager
    def span(call: Any, request: Any, context: Any) -> Iterator[None]:
        if call.method in OPEN_METHODS:
            yield
            return
        service, method = call.method.strip("/").split("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if (model := model_of(request)) is not None:
            attributes["netspec.model"] = model
        with tracing.request(f"{service}/{method}", dict(texts(call)), attributes) as opened:
            try:
                yield
            finally:
                opened.set_attribute("rpc.grpc.status_code", _status(context).value[0])

    return span


def _status(context: Any) -> grpc.StatusCode:
    """How a call ends, asked while it does: a client that gives up leaves no code, only the end of the task."""
    if isinstance(sys.exception(), asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    return context.code() or grpc.StatusCode.OK


def method_of(call: Any) -> str:
    """The name of a call's method without its service."""
    return str(call.method).rpartition("/")[2]


def model_of(request: Any) -> str | None:
    """The model that a request is about, None where it is about none."""
    return request.model_name or None if isinstance(request, Received) else None


def texts(call: Any) -> Iterator[tuple[str, str]]:
    """The call's metadata that is text."""
    return ((key, value) for key, value in call.invocation_metadata or () if isinstance(value, str))
