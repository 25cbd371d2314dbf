"""gRPC's door: the service with its keys, TLS, log and traces."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import grpc

from runtime.server.keys import Keys
from runtime.server.rpc.server import RpcLimits, RpcServer, start_grpc
from runtime.server.rpc_guard import RpcGuard
from runtime.server.rpc_watch import RpcTracing, RpcWatch, access_record, traced
from runtime.server.settings import Settings
from runtime.serving.repository import Repository

if TYPE_CHECKING:  # only who asks for TLS waits for it
    from runtime.server.tls import Shown


async def open_rpc(
    repository: Repository,
    settings: Settings,
    keys: Keys,
    tracing: RpcTracing | None,
    listener: socket.socket,
    shown: Shown | None,
) -> RpcServer:
    """Begins to answer gRPC at the address that a bound socket holds, which is closed; over TLS with certificates.

    Raises:
        AddressError: another process took it in the meantime.
    """
    host, port = listener.getsockname()[:2]
    listener.close()
    interceptors: list[Any] = [RpcGuard(keys)]
    if settings.access_log:
        interceptors.insert(0, RpcWatch(access_record))
    if tracing is not None:
        interceptors.insert(0, RpcWatch(traced(tracing)))
    credentials = None if shown is None else _credentials(shown)
    limits = RpcLimits(settings.max_body, settings.max_pending, settings.max_connections)
    return await start_grpc(host, port, repository, limits, credentials, interceptors)


def _credentials(shown: Shown) -> Any:
    """What gRPC shows: it asks at each handshake whether that has changed."""
    given = shown.pem

    def changed() -> Any:
        nonlocal given
        if given is shown.pem:
            return None
        given = shown.pem
        return _configuration(*given)

    return grpc.dynamic_ssl_server_credentials(_configuration(*given), changed, given[2] is not None)


def _configuration(key: bytes, certificates: bytes, authorities: bytes | None) -> Any:
    return grpc.ssl_server_certificate_configuration([(key, certificates)], authorities)
