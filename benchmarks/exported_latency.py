"""ONNX Runtime on our files of the zoo's networks against ONNX Runtime on the files of PyTorch's exporters."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.export_zoo import NAMES
from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish, worst
from benchmarks.plain import plain_class
from benchmarks.rival_exports import RIVALS, quiet
from compiler.export import export
from compiler.module import build
from netspec import load

ROUNDS = {1: 15, 8: 3}  # by batch size


def sessions_of(name: str) -> dict[str, onnxruntime.InferenceSession]:
    network = load(name)
    module, plain = build(network).eval(), plain_class(network)().eval()
    plain.load_state_dict(module.state_dict())
    # One thread each: the waiting threads of one session would otherwise take the cores from the others.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, quiet():
        paths = {side: Path(folder) / f"{side}.onnx" for side in ("netspec", *RIVALS)}
        export(network, module, paths["netspec"])
        for rival, theirs in RIVALS.items():
            theirs(plain, torch.randn(2, 3, 224, 224), paths[rival])
        return {
            side: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for side, path in paths.items()
        }


def measure() -> Result:
    ratios, times = {}, {}
    for name in NAMES:
        sessions = sessions_of(name)
        for batch, rounds in ROUNDS.items():
            feeds = {"image": np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)}
            ours, *others = (session.run(None, feeds)[0] for session in sessions.values())
            for theirs in others:
                np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
            calls = {side: partial(session.run, None, feeds) for side, session in sessions.items()}
            found = alternate(calls, rounds, warm_up=1)
            times |= {f"{name}, batch {batch}, {side}": value for side, value in medians(found).items()}
            for rival in RIVALS:
                ratios[f"{name}, batch {batch}, {rival}"] = paired_ratio(found, "netspec", rival)
    what = "ONNX Runtime on our file over ONNX Runtime on the file of torch.onnx.export, CPU"
    return worst(
        "exported_latency", what, ratios, 1.02, True, times, {"rounds": ROUNDS, "onnxruntime_threads": 1}
    )


if __name__ == "__main__":
    publish([measure()])
