"""The models that are served: networks of the zoo with drawn weights, and small ones made for a purpose."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks.measuring import in_child
from compiler.export import export
from compiler.module import build
from netspec import load

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def zoo_model(name: str, folder: Path) -> Path:
    """A file of a network of the zoo with weights as drawn, written by a process that takes PyTorch along."""
    path = folder / f"{name}.onnx"
    in_child(_write, name, path)
    return path


def _write(name: str, path: Path) -> None:
    network = load(name)
    export(network, build(network).eval(), path)


def bare_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime alone on the CPU; one thread per core by default."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def raw_loop(
    session: onnxruntime.InferenceSession, feeds: Sequence[dict[str, np.ndarray]], seconds: float
) -> list[float]:
    """The seconds that each run takes, one after the other, for about so many seconds."""
    taken: list[float] = []
    begun = perf_counter()
    while perf_counter() - begun < seconds:
        start = perf_counter()
        session.run(None, feeds[len(taken) % len(feeds)])
        taken.append(perf_counter() - start)
    return taken


def scaled_convolution(path: Path, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """A model of free batch and sizes that is quick and says which weights it has; returns what it computes, in NumPy.

    Input `image` [N, 3, H, W]; output `scores` [N, 4]: a 1×1 convolution with weights times `factor`, averaged.
    """
    weights = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1) * np.float32(factor)
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["channels"]),
        helper.make_node("GlobalAveragePool", ["channels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "scaled_convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return lambda image: image.mean(axis=(2, 3)) @ weights.reshape(4, 3).T
