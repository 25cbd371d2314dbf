"""Who may call over gRPC: what `runtime.server.guard` is for HTTP.

No page calls, by whatever name: browsers speak HTTP/2 over TLS alone, where the certificate would have to be for the
page's own name. So the names that a call is made by aren't looked at.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from runtime.server.guard import given_key
from runtime.server.keys import Keys
from runtime.server.rpc.status import abort
from runtime.serving.refused import Refused

SERVICE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
# Probes have no keys.
OPEN_METHODS = frozenset(
    {f"{SERVICE}ServerLive", f"{SERVICE}ServerReady", f"{SERVICE}ModelReady", f"{HEALTH}Check", f"{HEALTH}Watch"}
)
ADMIN_METHODS = frozenset({f"{SERVICE}RepositoryModelLoad", f"{SERVICE}RepositoryModelUnload"})
# By whether requests, and whether answers, are streams.
MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
# The name of the key that the call in hand was made with.
caller: ContextVar[str | None] = ContextVar("caller", default=None)


class RpcGuard:
    """An interceptor that lets through who may call; a key is in the metadata as it is in HTTP's headers."""

    def __init__(self, keys: Keys) -> None:
        """Guards a service with these keys."""
        self._keys = keys

    async def intercept_service(self, go_on: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """The handler of one call, or one that refuses it."""
        is_admin_call = call.method in ADMIN_METHODS
        if not is_admin_call and (not self._keys.is_needed or call.method in OPEN_METHODS):
            return await go_on(call)
        headers = [(key.encode(), _bytes(value)) for key, value in call.invocation_metadata or ()]
        try:
            name = self._keys.check(given_key(headers), is_admin_call)
        except Refused as refusal:
            return _refusing(await go_on(call), refusal)
        caller.set(name)
        return await go_on(call)


grpc.aio.ServerInterceptor.register(RpcGuard)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def _refusing(handler: Any, refusal: Refused) -> Any:
    """A handler of the same kind that ends its calls with the refusal, without reading what they send."""
    if handler is None:  # there is no such method, and grpc says so
        return None

    async def refuse(request: Any, context: Any) -> None:
        await abort(context, refusal)

    return MAKERS[handler.request_streaming, handler.response_streaming](refuse)
