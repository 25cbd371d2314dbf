"""gRPC's door: the service with its keys, TLS, log and traces."""

import socket
from typing import Any

import grpc

from runtime.server.keys import Keys
from runtime.server.rpc.server import RpcLimits, RpcServer, start_grpc
from runtime.server.rpc_guard import RpcGuard
from runtime.server.rpc_watch import RpcTracing, RpcWatch, access_record, traced
from runtime.server.settings import Settings
from runtime.serving.repository import Repository


async def open_rpc(
    repository: Repository, settings: Settings, keys: Keys, tracing: RpcTracing | None, listener: socket.socket
) -> RpcServer:
    """Begins to answer gRPC at the address that a bound socket holds, which is closed.

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
    credentials = None if settings.certificates is None else _credentials(*settings.certificates.pem())
    limits = RpcLimits(settings.max_body, settings.max_pending, settings.max_connections)
    return await start_grpc(host, port, repository, limits, credentials, interceptors)


def _credentials(key: bytes, certificates: bytes, authorities: bytes | None) -> Any:
    return grpc.ssl_server_credentials([(key, certificates)], authorities, require_client_auth=authorities is not None)
