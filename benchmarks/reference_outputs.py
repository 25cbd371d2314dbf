"""Every model of `tests/reference` with drawn weights: outputs of PyTorch and ONNX Runtime against torchvision's."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnxruntime
import torch

from benchmarks.measuring import Result, publish, worst
from benchmarks.torchvision_reference import (
    DETECTORS,
    NAMES,
    TOLERANCE,
    difference,
    drawn_input,
    drawn_weight,
    reference,
)
from compiler.export import export
from compiler.module import build
from netspec import load


def differences(name: str) -> dict[str, float]:
    """The greatest difference at each size for each of both engines, over the reference's standard deviation."""
    network = load(name)
    module = build(network).eval()
    state = module.state_dict()
    module.load_state_dict({key: drawn_weight(key, tuple(tensor.shape)) for key, tensor in state.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(network, module, path, served=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {}
    for run in reference(name)["runs"]:
        inputs = {key: drawn_input(key, tuple(shape)) for key, shape in run["input"].items()}
        size = ", ".join("×".join(map(str, shape)) for shape in run["input"].values())
        with torch.inference_mode():
            output = module(*inputs.values()).numpy()
        (served,) = session.run(None, {key: tensor.numpy() for key, tensor in inputs.items()})
        found[f"{size} PyTorch"] = difference(output, run["output"])
        found[f"{size} ONNX Runtime"] = difference(served, run["output"])
    return found


def measure() -> Result:
    found: dict[str, dict[str, float]] = {}
    for name in (name for name in NAMES if name not in DETECTORS):
        found[name] = differences(name)
        if len(found) == 1:
            print(f"{'':<14}" + "".join(f"{column:>26}" for column in found[name]))
        print(f"{name:<14}" + "".join(f"{value:>26.1e}" for value in found[name].values()), flush=True)
    greatest = {name: max(values.values()) for name, values in found.items()}
    what = "greatest difference from torchvision's outputs over their standard deviation"
    return worst("reference_outputs", what, greatest, TOLERANCE, True, {}, {"differences": found})


if __name__ == "__main__":
    sys.exit(0 if publish(measure) else 1)
