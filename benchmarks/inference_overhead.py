"""The runtime's session, which checks names, types and shapes, against the bare session of ONNX Runtime under it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish
from compiler.export import export
from compiler.module import build
from netspec import load
from runtime.engine_options import EngineOptions
from runtime.session import Session

BATCH = 8
ROUNDS = 2000


def measure() -> Result:
    network = load("resnet")
    images = np.random.default_rng(0).normal(size=(BATCH, 1, 8, 8)).astype(np.float32)
    feeds = {"image": images}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        export(network, build(network).eval(), path)
        # One thread each: the waiting threads of one session would otherwise take the cores from the other.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        bare = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        ours = Session(path, EngineOptions("cpu", threads=1))
    np.testing.assert_array_equal(*ours.run(feeds).values(), *bare.run(None, feeds))
    calls = {"runtime": lambda: ours.run(feeds), "bare": lambda: bare.run(None, feeds)}
    times = alternate(calls, ROUNDS, warm_up=100)
    return Result(
        "inference_overhead",
        f"a run of the runtime's session over a bare InferenceSession.run, the digits' ResNet, batch {BATCH}, CPU",
        paired_ratio(times, "runtime", "bare"),
        1.05,
        True,
        medians(times),
        {"rounds": ROUNDS, "onnxruntime_threads": 1},
    )


if __name__ == "__main__":
    publish(measure)
