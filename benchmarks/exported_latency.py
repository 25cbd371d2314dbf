"""ONNX Runtime on our files of the zoo's networks against ONNX Runtime on the files of PyTorch's exporters.

Our files leave height and width free, those of the rivals have them fixed, and ONNX Runtime chooses other kernels for
sizes that it knows. So that both know the same, our session is told the sizes; what it takes without is stated beside.
Sessions on one file differ by a percent or two, by where their memory lies, so they are opened several times.
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

OPENINGS = 3
ROUNDS = {1: 12, 8: 2}  # of each opening, by batch size
SIZE = 224
FREE = "netspec, free sizes"


def session_of(path: Path, **sizes: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread each: the waiting threads of one session would otherwise take the cores from the others.
    options.intra_op_num_threads = 1
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write_files(name: str, folder: Path) -> dict[str, Path]:
    """The file of each exporter."""
    network = load(name)
    module, plain = build(network).eval(), plain_class(network)().eval()
    plain.load_state_dict(module.state_dict())
    paths = {side: folder / f"{side}.onnx" for side in ("netspec", *RIVALS)}
    export(network, module, paths["netspec"])
    with quiet():
        for rival, theirs in RIVALS.items():
            theirs(plain, torch.randn(2, 3, SIZE, SIZE), paths[rival])
    return paths


def times_of(paths: dict[str, Path]) -> dict[int, dict[str, list[float]]]:
    """By batch size, the times of each side in sessions opened for this."""
    sessions = {"netspec": session_of(paths["netspec"], H=SIZE, W=SIZE), FREE: session_of(paths["netspec"])}
    sessions |= {rival: session_of(paths[rival]) for rival in RIVALS}
    found = {}
    for batch, rounds in ROUNDS.items():
        feeds = {"image": np.random.default_rng(0).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)}
        ours, *others = (session.run(None, feeds)[0] for session in sessions.values())
        for theirs in others:
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
        calls = {side: partial(session.run, None, feeds) for side, session in sessions.items()}
        found[batch] = alternate(calls, rounds, warm_up=1)
    return found


def measure() -> Result:
    ratios, free, times = {}, {}, {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(name, Path(folder))
            openings = [times_of(paths) for _ in range(OPENINGS)]
        for batch in ROUNDS:
            found = {side: [t for opening in openings for t in opening[batch][side]] for side in openings[0][batch]}
            times |= {f"{name}, batch {batch}, {side}": value for side, value in medians(found).items()}
            for rival in RIVALS:
                case = f"{name}, batch {batch}, {rival}"
                ratios[case] = paired_ratio(found, "netspec", rival)
                free[case] = paired_ratio(found, FREE, rival)
    what = "ONNX Runtime on our file over ONNX Runtime on the file of torch.onnx.export, CPU"
    details = {"openings": OPENINGS, "rounds": ROUNDS, "onnxruntime_threads": 1, "ratios_free_sizes": free}
    return worst("exported_latency", what, ratios, 1.02, True, times, details)


if __name__ == "__main__":
    publish(measure)
