"""Runs the model.onnx beside this file on ONNX Runtime, in Triton's Python backend.

Needs numpy and onnxruntime in the Python that Triton's backend runs. Written by `netspec deploy triton`.
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton makes of each instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model as its configuration says."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        threads = config["parameters"].get("intra_op_thread_count")
        if threads is not None:
            options.intra_op_num_threads = int(threads["string_value"])
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]}))
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=providers, enable_fallback=0
        )
        if len(providers) > 1 and "CUDAExecutionProvider" not in self._session.get_providers():
            raise triton.TritonModelException("CUDA does not work here")
        self._inputs = [spec.name for spec in self._session.get_inputs()]
        self._outputs = [spec.name for spec in self._session.get_outputs()]
        self._batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests, those of equal shapes and outputs in one run."""
        groups: dict[Any, list[int]] = {}
        feeds: dict[int, list[np.ndarray]] = {}
        responses: list[Any] = [None] * len(requests)
        for number, request in enumerate(requests):
            try:
                feeds[number] = self._feeds(request)
            except UnicodeDecodeError:
                responses[number] = _failure("a BYTES element is not UTF-8, and the model's strings are text")
                continue
            shapes = tuple(array.shape[1:] for array in feeds[number])
            key = (shapes, tuple(request.requested_output_names())) if self._batched else number
            groups.setdefault(key, []).append(number)
        for numbers in groups.values():
            answers = self._run(requests[numbers[0]], [feeds[number] for number in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                responses[number] = answer
        return responses

    def _feeds(self, request: Any) -> list[np.ndarray]:
        arrays = [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
        return [_as_text(array) if array.dtype.hasobject else array for array in arrays]

    def _run(self, request: Any, feeds: list[list[np.ndarray]]) -> list[Any]:
        """The answers to requests of equal shapes, run together where there are several."""
        names = [name for name in self._outputs if name in request.requested_output_names()]
        joined = feeds[0] if len(feeds) == 1 else [np.concatenate(arrays) for arrays in zip(*feeds, strict=True)]
        try:
            results = self._session.run(names, dict(zip(self._inputs, joined, strict=True)))
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            if len(feeds) > 1:  # one of them is at fault, and only that one is to be told so
                return [answer for arrays in feeds for answer in self._run(request, [arrays])]
            return [_failure(str(error))]
        if len(feeds) == 1:
            return [self._response(names, results)]
        ends = np.cumsum([len(arrays[0]) for arrays in feeds])[:-1]
        parts = [np.split(array, ends) for array in results]
        return [self._response(names, arrays) for arrays in zip(*parts, strict=True)]

    def _response(self, names: list[str], arrays: Any) -> Any:
        return triton.InferenceResponse([triton.Tensor(name, array) for name, array in zip(names, arrays, strict=True)])


def _failure(message: str) -> Any:
    return triton.InferenceResponse([], triton.TritonError(message))


def _as_text(array: np.ndarray) -> np.ndarray:
    """Triton's text is bytes, ONNX Runtime's is str."""
    return np.array([element.decode() for element in array.ravel()], object).reshape(array.shape)
