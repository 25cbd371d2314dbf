"""Streams of requests: every answer in its order, and an error that is its request's alone."""

import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2

from tests.runtime.conftest import SaveModel
from tests.runtime.grpc_server import Served, request, tensor, until


@pytest.fixture
def serve(save_echo: SaveModel) -> Iterator[Callable[..., Served]]:
    """Serves the model ``m`` that gives back what it is given."""
    running = []

    def start(**options: Any) -> Served:
        running.append(Served({"m": save_echo()}, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


def numbered(number: float, model: str = "m", **fields: Any) -> Any:
    raw = np.array([[number, 0]], np.float32).tobytes()
    return request(model, tensor(), raw=(raw,), id=str(number), **fields)


def test_the_client_with_streams(serve: Callable[..., Served]) -> None:
    """The client's own stream: its callback has answers in order, and errors as errors."""
    seen: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = InferenceServerClient(serve().address)
    client.start_stream(lambda result, error: seen.put((result, error)))
    given = InferInput("x", [1, 2], "FP32")
    for number in range(20):
        given.set_data_from_numpy(np.full((1, 2), number, np.float32))
        model = "nobody" if number == 7 else "m"
        client.async_stream_infer(model, [given], request_id=str(number), enable_empty_final_response=True)
    answers = [seen.get(timeout=10) for _ in range(20)]
    client.stop_stream()
    client.close()
    for number, (result, error) in enumerate(answers):
        if number == 7:
            assert result is None
            assert "no model 'nobody'" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("y").tolist() == [[number, number]]
            assert result.get_response().parameters["triton_final_response"].bool_param


def test_a_failed_answer_names_its_request(serve: Callable[..., Served]) -> None:
    wrong = request("m", tensor(), raw=(b"short",), id="wrong")
    answers = list(serve().stub.ModelStreamInfer(iter([numbered(1), wrong, numbered(2)])))
    assert [answer.infer_response.id for answer in answers] == ["1", "wrong", "2"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert "'x': 5 bytes" in answers[1].error_message


def test_requests_of_a_stream_run_together(serve: Callable[..., Served]) -> None:
    served = serve(max_batch=8, max_delay=5.0)
    began = time.monotonic()
    answers = list(served.stub.ModelStreamInfer(numbered(number) for number in range(16)))
    assert time.monotonic() - began < 4
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(16)]
    (told,) = served.client.get_inference_statistics("m").model_stats
    assert (told.inference_count, told.execution_count) == (16, 2)


def test_a_stream_larger_than_the_queue_waits_instead_of_being_refused(serve: Callable[..., Served]) -> None:
    served = serve(max_queue=64, max_batch=4)
    answers = list(served.stub.ModelStreamInfer(numbered(number) for number in range(300)))
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(300)]
    assert not any(answer.error_message for answer in answers)


def test_a_stream_that_the_server_ends_has_all_that_was_read_answered(serve: Callable[..., Served]) -> None:
    """More requests than are read ahead, while none can run: those that were read are answered, in order."""
    served = serve(max_delay=60.0, max_batch=1000)
    stream = served.stub.ModelStreamInfer(numbered(number) for number in range(100))
    until(lambda: served.repository.model("m").queue_depth >= 32)
    served.run(served.drain())
    seen = []
    with pytest.raises(grpc.RpcError) as caught:
        for answer in stream:
            seen.append(answer.infer_response.id)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert seen == [str(number) for number in range(len(seen))]
    assert len(seen) >= 32


def test_a_stream_that_is_no_message_goes_on(serve: Callable[..., Served]) -> None:
    call = serve().channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    sent = [numbered(1).SerializeToString(), b"\xff\xff", numbered(2).SerializeToString()]
    answers = [service_pb2.ModelStreamInferResponse.FromString(data) for data in call(iter(sent))]
    assert [answer.infer_response.id for answer in answers] == ["1", "", "2"]
    assert "ModelInferRequest" in answers[1].error_message


def test_a_stream_whose_client_goes_away_leaves_nothing_behind(serve: Callable[..., Served], caplog: Any) -> None:
    served = serve(max_batch=8, max_delay=60.0)
    sent = iter([numbered(1), numbered(2)])
    call = served.stub.ModelStreamInfer(sent)
    model = served.repository.model("m")
    until(lambda: model.queue_depth == 2)
    call.cancel()
    until(lambda: model.statistics.abandoned == 2)
    assert model.queue_depth == 0
    assert not caplog.records


ABRUPT = """
import os, sys
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[500_000, 2])
large = service_pb2.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(4_000_000)])
stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(sys.argv[1]))
calls = [stub.ModelInfer.future(large) for _ in range(4)]
for answer in stub.ModelStreamInfer(large for _ in range(30)):
    os._exit(0)
"""


def test_a_client_that_dies_is_no_event_for_the_log(serve: Callable[..., Served], caplog: Any) -> None:
    served = serve()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", ABRUPT, served.address], timeout=60)
    model = served.repository.model("m")
    until(lambda: model.statistics.in_flight == 0)
    assert served.stub.ModelInfer(numbered(1)).id == "1"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
