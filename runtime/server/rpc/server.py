"""The gRPC server: its service, its bounds, its address, and how it ends."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from runtime.errors import AddressError
from runtime.protocol.messages import HEALTH_SERVICE, INFERENCE_SERVICE, message_class
from runtime.server.address import authority, bind
from runtime.server.rpc.calls import Call, Calls
from runtime.server.rpc.health import Health
from runtime.server.rpc.inference import Inference
from runtime.server.rpc.received import Received, reader
from runtime.server.rpc.status import abort, refusal_of
from runtime.serving.repository import Repository


def _concerns_us(record: logging.LogRecord) -> bool:
    """Whether gRPC has something to tell other than that an answer had no client any more."""
    return record.exc_info is None or type(record.exc_info[1]).__name__ != "ExecuteBatchError"


logging.getLogger("grpc._cython.cygrpc").addFilter(_concerns_us)


@dataclass(frozen=True)
class RpcLimits:
    """Bounds of the gRPC server.

    Attributes:
        max_message: the most bytes of a request, decompressed.
        max_pending: the most bytes of all requests that are being answered; beyond it they are refused.
        max_calls: the most calls at a time, streams among them; beyond it they are refused.
        max_metadata: the most bytes of a call's metadata.
    """

    max_message: int = 64 * 2**20
    max_pending: int = 8 * 64 * 2**20
    max_calls: int = 10_000
    max_metadata: int = 16 * 2**10


class RpcServer:
    """A server that answers over gRPC in the running event loop.

    Attributes:
        port: where it listens, once `listen` has been called.
    """

    def __init__(
        self, repository: Repository, limits: RpcLimits | None = None, interceptors: Sequence[Any] = ()
    ) -> None:
        """Serves the models of `repository`; calls pass through the `interceptors` first."""
        limits = limits or RpcLimits()
        self.port = 0
        self._inference = Inference(repository, limits.max_pending)
        self._health = Health(repository)
        self._server = grpc.aio.server(
            handlers=[_inference_handlers(repository, self._inference), _health_handlers(self._health)],
            interceptors=list(interceptors),
            options=_options(limits),
            maximum_concurrent_rpcs=limits.max_calls,
        )

    def listen(self, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Takes an address, over TLS where there are `credentials`; nobody is answered before `start`.

        Raises:
            AddressError: it is not to be had; the message says why.
        """
        # gRPC says of a failure only that it failed. Where the port is free for us, it is free for gRPC.
        probe = bind(host, port)
        address = authority(*probe.getsockname()[:2])
        probe.close()
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise AddressError(f"cannot listen on {address}: {error}") from None

    async def start(self) -> None:
        """Begins to answer."""
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Takes no more calls, and returns when those accepted are answered, or after so many seconds."""
        self._health.stop()
        self._inference.end_streams()
        await self._server.stop(seconds)


async def start_grpc(
    host: str,
    port: int,
    repository: Repository,
    limits: RpcLimits | None = None,
    credentials: grpc.ServerCredentials | None = None,
    interceptors: Sequence[Any] = (),
) -> RpcServer:
    """A server that answers; see `RpcServer` for the arguments and the error raised."""
    server = RpcServer(repository, limits, interceptors)
    server.listen(host, port, credentials)
    await server.start()
    return server


def _options(limits: RpcLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.max_metadata),
        ("grpc.absolute_max_metadata_size", limits.max_metadata),
        # Two servers on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
        # A client that vanished is noticed within minutes; one that pings more than every 10 seconds is cut off.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _inference_handlers(repository: Repository, inference: Inference) -> grpc.GenericRpcHandler:
    """The handlers of every method that the service has."""
    calls = Calls(repository).by_name()
    handlers = {}
    for method in INFERENCE_SERVICE.methods:
        kind = reader(method.input_type.full_name)
        if method.name == "ModelInfer":
            handler = grpc.unary_unary_rpc_method_handler(inference.single, kind, _serialized)
        elif method.name == "ModelStreamInfer":
            handler = grpc.stream_stream_rpc_method_handler(inference.stream, kind, _serialized)
        else:
            answer = _answering(calls[method.name], method.output_type.full_name)
            handler = grpc.unary_unary_rpc_method_handler(answer, kind, _serialized)
        handlers[method.name] = handler
    return grpc.method_handlers_generic_handler(INFERENCE_SERVICE.full_name, handlers)


def _health_handlers(health: Health) -> grpc.GenericRpcHandler:
    kind = reader("grpc.health.v1.HealthCheckRequest")
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(health.check, kind, _serialized),
        "Watch": grpc.unary_stream_rpc_method_handler(health.watch, kind, _serialized),
    }
    return grpc.method_handlers_generic_handler(HEALTH_SERVICE.full_name, handlers)


def _answering(call: Call, name: str) -> Any:
    """The handler of a call whose answer is the message of this full name."""
    kind = message_class(name)

    async def answer(received: Received, context: grpc.aio.ServicerContext) -> Any:
        try:
            return kind(**await call(received.read()))
        except Exception as error:
            await abort(context, refusal_of(error))

    return answer


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
