"""A gRPC server for tests: models of a repository, asked over the loopback by the protocol's own clients."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc

from runtime.protocol.model_config import read_config, read_override
from runtime.server.rpc.server import RpcLimits, RpcServer, start_grpc
from runtime.serving.options import ModelOptions
from runtime.serving.repository import Repository
from runtime.serving.sources import Files, Folder

T = TypeVar("T")


class Served:
    """A server and the event loop that it runs on, in a thread of its own."""

    def __init__(self, models: Mapping[str, Path] | Path, limits: RpcLimits | None = None, **options: Any) -> None:
        """Serves files by their names, or a repository's folder."""
        self.loop = uvloop.new_event_loop()  # as a server has it
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        chosen = ModelOptions(**{"device": "cpu", "threads": 1, **options})
        source = Folder(models, chosen, read_config) if isinstance(models, Path) else Files(models, chosen)
        self.repository = Repository(source, read_override)
        self.run(self.repository.start())
        self.server: RpcServer = self.run(start_grpc("127.0.0.1", 0, self.repository, limits))
        self.address = f"127.0.0.1:{self.server.port}"
        self.client = InferenceServerClient(self.address)
        self.channel = grpc.insecure_channel(self.address)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def drain(self, seconds: float = 5) -> None:
        """Ends as a process does."""
        await asyncio.gather(self.repository.close(), self.server.stop(seconds))

    def close(self) -> None:
        """Ends everything."""
        self.channel.close()
        self.client.close()
        self.run(self.drain(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def refused(self, message: Any, method: str = "ModelInfer", **options: Any) -> tuple[grpc.StatusCode, str]:
        """The status and text with which a call is refused."""
        try:
            getattr(self.stub, method)(message, **options)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError("the call was answered")


def request(model: str = "m", *tensors: Any, raw: tuple[bytes, ...] = (), **fields: Any) -> Any:
    """A `ModelInferRequest`."""
    return service_pb2.ModelInferRequest(model_name=model, inputs=tensors, raw_input_contents=raw, **fields)


def tensor(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **contents: Any) -> Any:
    """An input; `contents` are the fields of its elements."""
    made = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        made.contents.CopyFrom(service_pb2.InferTensorContents(**contents))
    return made


def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
