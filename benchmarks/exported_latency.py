"""ONNX Runtime on our files of the zoo's networks against ONNX Runtime on the files of PyTorch's exporters.

Our files leave height and width free, those of the rivals have them fixed, and ONNX Runtime chooses other kernels for
sizes that it knows. So that both know the same, our session is told the sizes; what it takes without is stated beside.
"""

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

ROUNDS = {1: 15, 8: 5}  # by batch size
SIZE = 224
FREE = "netspec, free sizes"


def session_of(path: Path, **sizes: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread each: the waiting threads of one session would otherwise take the cores from the others.
    options.intra_op_num_threads = 1
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sessions_of(name: str) -> dict[str, onnxruntime.InferenceSession]:
    network = load(name)
    module, plain = build(network).eval(), plain_class(network)().eval()
    plain.load_state_dict(module.state_dict())
    with tempfile.TemporaryDirectory() as folder, quiet():
        paths = {side: Path(folder) / f"{side}.onnx" for side in ("netspec", *RIVALS)}
        export(network, module, paths["netspec"])
        for rival, theirs in RIVALS.items():
            theirs(plain, torch.randn(2, 3, SIZE, SIZE), paths[rival])
        return {
            "netspec": session_of(paths["netspec"], H=SIZE, W=SIZE),
            FREE: session_of(paths["netspec"]),
            **{rival: session_of(paths[rival]) for rival in RIVALS},
        }


def measure() -> Result:
    ratios, free, times = {}, {}, {}
    for name in NAMES:
        sessions = sessions_of(name)
        for batch, rounds in ROUNDS.items():
            feeds = {"image": np.random.default_rng(0).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)}
            ours, *others = (session.run(None, feeds)[0] for session in sessions.values())
            for theirs in others:
                np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
            calls = {side: partial(session.run, None, feeds) for side, session in sessions.items()}
            found = alternate(calls, rounds, warm_up=1)
            times |= {f"{name}, batch {batch}, {side}": value for side, value in medians(found).items()}
            for rival in RIVALS:
                case = f"{name}, batch {batch}, {rival}"
                ratios[case] = paired_ratio(found, "netspec", rival)
                free[case] = paired_ratio(found, FREE, rival)
    what = "ONNX Runtime on our file over ONNX Runtime on the file of torch.onnx.export, CPU"
    return worst(
        "exported_latency",
        what,
        ratios,
        1.02,
        True,
        times,
        {"rounds": ROUNDS, "onnxruntime_threads": 1, "ratios_free_sizes": free},
    )


if __name__ == "__main__":
    publish([measure()])
