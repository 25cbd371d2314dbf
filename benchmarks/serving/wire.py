"""Requests of the Open Inference Protocol V2 as bytes that are ready to be sent, and the check of what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "uint8": "UINT8"}
SIZE_HEADER = "Inference-Header-Content-Length"

# Rows that are computed together with others go through other kernels, which round otherwise.
TOLERANCE = 1e-4


class Scaled(Mapping[str | None, np.ndarray]):
    """What every version of a scaled model answers: its number times what version 1 does."""

    def __init__(self, first: np.ndarray) -> None:
        self._first = first

    def __getitem__(self, version: str | None) -> np.ndarray:
        if version is None:
            raise KeyError(version)
        return self._first * np.float32(version)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Exchange:
    """A whole HTTP request, the statuses that may answer it, and the check of an answer of 200.

    `expected` has the first output by the model's version, and under None where any version has the same. It is empty
    where no answer of 200 is right.
    """

    request: bytes
    statuses: frozenset[int] = frozenset({200})
    expected: Mapping[str | None, np.ndarray] = field(default_factory=dict)

    def holds(self, head: bytes, body: bytes) -> bool:
        """Whether the numbers of an answer are the expected ones."""
        try:
            version, found = read_answer(head, body)
        except (ValueError, KeyError, IndexError, TypeError):
            return False
        right = self.expected.get(version, self.expected.get(None))
        return (
            right is not None and found.shape == right.shape and bool(np.allclose(found, right, TOLERANCE, TOLERANCE))
        )


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST request on a connection that stays open."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def infer_path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def json_request(path: str, feeds: Mapping[str, np.ndarray]) -> bytes:
    """A request with its tensors as JSON, which asks for JSON."""
    inputs = [_tensor(name, array) | {"data": array.ravel()} for name, array in feeds.items()]
    body = orjson.dumps({"inputs": inputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return post(path, body, {"Content-Type": "application/json"})


def binary_request(path: str, feeds: Mapping[str, np.ndarray]) -> bytes:
    """A request with its tensors as bytes after the JSON, which asks for bytes."""
    inputs = [
        _tensor(name, array) | {"parameters": {"binary_data_size": array.nbytes}} for name, array in feeds.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(np.ascontiguousarray(array).tobytes() for array in feeds.values())
    return post(path, body, {"Content-Type": "application/octet-stream", SIZE_HEADER: str(len(head))})


def _tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[str(array.dtype)]}


def read_answer(head: bytes, body: bytes) -> tuple[str | None, np.ndarray]:
    """The model's version and the first output of an answer, by its HTTP head and body; binary outputs are FP32."""
    size = header(head, SIZE_HEADER)
    reply = orjson.loads(body if size is None else body[: int(size)])
    output = reply["outputs"][0]
    if size is None:
        data = np.array(output["data"], dtype=np.float32)
    else:
        data = np.frombuffer(body, np.float32, output["parameters"]["binary_data_size"] // 4, int(size))
    return reply.get("model_version"), data.reshape(output["shape"])


def header(head: bytes, name: str) -> str | None:
    """The value of a header in a reply's head, None where it is not there."""
    lowered = head.lower()
    begin = lowered.find(f"\r\n{name.lower()}:".encode())
    if begin < 0:
        return None
    begin += len(name) + 3
    return head[begin : head.index(b"\r\n", begin)].strip().decode()


def exchanges(
    path: str, feeds: Sequence[Mapping[str, np.ndarray]], outputs: Sequence[np.ndarray], binary: bool
) -> list[Exchange]:
    """Requests with these feeds, which have these first outputs whatever the version."""
    write = binary_request if binary else json_request
    return [Exchange(write(path, feed), expected={None: output}) for feed, output in zip(feeds, outputs, strict=True)]
