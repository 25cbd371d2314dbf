"""The gRPC server within its bounds: sizes, deadlines, overload, health, and its end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto
from tritonclient.grpc import InferResult, service_pb2

from runtime.errors import AddressError
from runtime.server.rpc.server import RpcLimits, RpcServer
from tests.runtime.conftest import SaveModel
from tests.runtime.grpc_server import Served, request, tensor, until

RAW = np.array([[1, 2]], np.float32).tobytes()
RIGHT = request("m", tensor(), raw=(RAW,))
Serve = Callable[..., Served]


@pytest.fixture
def serve(save_echo: SaveModel) -> Iterator[Serve]:
    """Serves the model ``m`` that gives back what it is given."""
    running = []

    def start(limits: RpcLimits | None = None, **options: Any) -> Served:
        running.append(Served({"m": save_echo()}, limits, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_that_is_too_large(serve: Serve, compression: grpc.Compression) -> None:
    """Its size counts as it is decompressed, so that a small one can't become a large one."""
    served = serve(RpcLimits(max_message=100_000))
    large = request("m", tensor(shape=(20_000, 2)), raw=(bytes(160_000),))
    code, text = served.refused(large, compression=compression)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in text
    fits = request("m", tensor(shape=(10_000, 2)), raw=(bytes(80_000),))
    assert len(served.stub.ModelInfer(fits, compression=compression).raw_output_contents[0]) == 80_000


def test_metadata_that_is_too_large(serve: Serve) -> None:
    served = serve()
    assert served.refused(RIGHT, metadata=(("note", "x" * 1_000_000),))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.stub.ModelInfer(RIGHT, metadata=(("note", "x" * 1000),)).model_name == "m"


def test_a_deadline_that_passes_drops_the_request(serve: Serve) -> None:
    served = serve(max_delay=60.0)
    model = served.repository.model("m")
    assert served.refused(RIGHT, timeout=0.2)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: model.statistics.abandoned == 1)
    assert (model.queue_depth, model.statistics.execution_count) == (0, 0)


def test_a_request_that_is_cancelled_is_dropped(serve: Serve) -> None:
    served = serve(max_delay=60.0)
    model = served.repository.model("m")
    call = served.stub.ModelInfer.future(RIGHT)
    until(lambda: model.queue_depth == 1)
    call.cancel()
    until(lambda: model.statistics.abandoned == 1)
    assert model.queue_depth == 0


def test_a_timeout_in_the_request(serve: Serve) -> None:
    """It is in microseconds, and the server's own word, unlike a deadline."""
    served = serve(max_delay=60.0)
    hurried = service_pb2.ModelInferRequest.FromString(RIGHT.SerializeToString())
    hurried.parameters["timeout"].int64_param = 50_000
    code, text = served.refused(hurried)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.05 s" in text


def test_more_than_the_queue_takes_is_refused_at_once(serve: Serve) -> None:
    served = serve(max_delay=60.0, max_queue=2)
    model = served.repository.model("m")
    waiting = [served.stub.ModelInfer.future(RIGHT) for _ in range(2)]
    until(lambda: model.queue_depth == 2)
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.ModelInfer(RIGHT)
    assert time.monotonic() - began < 1
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
    for call in waiting:
        call.cancel()


def test_requests_that_wait_take_bounded_memory(serve: Serve) -> None:
    served = serve(RpcLimits(max_pending=100_000), max_delay=60.0, max_batch=100_000)
    large = request("m", tensor(shape=(8_000, 2)), raw=(bytes(64_000),))
    waiting = served.stub.ModelInfer.future(large)
    until(lambda: served.repository.model("m").queue_depth == 1)
    code, text = served.refused(large)
    assert (code, "memory" in text) == (grpc.StatusCode.UNAVAILABLE, True)
    waiting.cancel()
    until(lambda: served.repository.model("m").queue_depth == 0)
    again = served.stub.ModelInfer.future(large)
    until(lambda: served.repository.model("m").queue_depth == 1)
    again.cancel()


def test_calls_beyond_the_bound_are_refused(serve: Serve) -> None:
    served = serve(RpcLimits(max_calls=2), max_delay=60.0)
    waiting = [served.stub.ModelInfer.future(RIGHT) for _ in range(2)]
    until(lambda: served.repository.model("m").queue_depth == 2)
    assert served.refused(RIGHT)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in waiting:
        call.cancel()


def test_what_was_accepted_is_answered_when_the_server_ends(serve: Serve) -> None:
    """A single request, a request of a stream, and a stream that would never end by itself."""
    served = serve(max_delay=60.0)
    single = served.stub.ModelInfer.future(RIGHT)
    released = threading.Event()

    def endless() -> Iterator[Any]:
        yield RIGHT
        released.wait(20)

    stream = served.stub.ModelStreamInfer(endless())
    until(lambda: served.repository.model("m").queue_depth == 2)
    began = time.monotonic()
    served.run(served.drain(20))
    assert time.monotonic() - began < 5
    assert InferResult(single.result(5)).as_numpy("y").tolist() == [[1, 2]]
    assert not next(stream).error_message
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    released.set()
    assert served.refused(RIGHT)[0] is grpc.StatusCode.UNAVAILABLE


def test_a_server_that_is_ending_is_not_ready(serve: Serve) -> None:
    served = serve()
    served.repository.draining = True
    assert served.client.is_server_live()
    assert not served.client.is_server_ready()
    assert not served.client.is_model_ready("m")
    code, text = served.refused(RIGHT)
    assert (code, "stopping" in text) == (grpc.StatusCode.UNAVAILABLE, True)


# The wire form of grpc.health.v1: a service in field 1; 1 serves, 2 does not, 3 is unknown.
WHOLE, OURS, OTHER = b"", b"\n\x1einference.GRPCInferenceService", b"\n\x05other"
HEALTH = "/grpc.health.v1.Health"


@pytest.mark.parametrize("service", [WHOLE, OURS])
def test_health(serve: Serve, service: bytes) -> None:
    served = serve()
    check = served.channel.unary_unary(f"{HEALTH}/Check")
    assert check(service) == b"\x08\x01"
    watch = served.channel.unary_stream(f"{HEALTH}/Watch")(service)
    assert next(watch) == b"\x08\x01"
    served.repository.draining = True
    assert check(service) == b"\x08\x02"
    served.run(served.drain())
    assert list(watch) == [b"\x08\x02"]


def test_the_health_of_a_service_that_there_is_not(serve: Serve) -> None:
    served = serve()
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary(f"{HEALTH}/Check")(OTHER)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert next(served.channel.unary_stream(f"{HEALTH}/Watch")(OTHER)) == b"\x08\x03"


def test_a_port_in_use(serve: Serve) -> None:
    served = serve()

    async def listen(host: str, port: int) -> None:
        RpcServer(served.repository).listen(host, port)

    with pytest.raises(AddressError, match="in use"):
        served.run(listen("127.0.0.1", served.server.port))
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(AddressError, match="in use"):
        served.run(listen("127.0.0.1", other.getsockname()[1]))
    with pytest.raises(AddressError, match="no host"):
        served.run(listen("no.such.host.invalid", 0))


def test_a_large_text_keeps_nobody_waiting(save_echo: SaveModel) -> None:
    """Half a million texts come and go while the event loop answers others."""
    served = Served({"texts": save_echo(TensorProto.STRING)})
    many = request("texts", tensor(datatype="BYTES", shape=(250_000, 2)), raw=(b"\1\0\0\0x" * 500_000,))
    try:
        start, slowest = time.monotonic(), 0.0
        call = served.stub.ModelInfer.future(many)
        while not call.done():
            began = time.monotonic()
            assert served.client.is_server_live()
            slowest = max(slowest, time.monotonic() - began)
        assert call.result().raw_output_contents[0] == many.raw_input_contents[0]
        assert slowest < (time.monotonic() - start) / 4
    finally:
        served.close()


def test_a_model_replaced_under_load_loses_no_request(serve: Serve) -> None:
    served = serve()
    ending = threading.Event()

    def ask() -> int:
        count = 0
        while not ending.is_set():
            assert served.stub.ModelInfer(RIGHT).raw_output_contents[0] == RAW
            count += 1
        return count

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        for _ in range(5):
            served.client.load_model("m")
        ending.set()
        assert sum(each.result() for each in asking) > 0
