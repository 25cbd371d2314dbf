"""The zoo against torchvision: the same parameters, the same state-dict, the same outputs."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from benchmarks.torchvision_reference import NAMES, TOLERANCE, difference, drawn_input, drawn_weight, reference
from compiler.export import export
from compiler.module import build
from netspec import load

# Run here with all their layers; `python -m benchmarks.reference_outputs` runs every one.
RUN = ("alexnet", "densenet121", "fcn_resnet50", "googlenet", "resnet18", "resnet50", "vgg11")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_state_dict_are_the_reference(name: str) -> None:
    network = load(name)
    expected = reference(name)
    assert network.parameters() == expected["parameters"]
    found = [[key, list(weight.shape), weight.kind] for key, weight in network.state_dict()]
    assert found == expected["state_dict"]


@pytest.mark.parametrize("name", RUN)
def test_pytorch_and_onnx_runtime_give_the_reference_outputs(name: str, tmp_path: Path) -> None:
    network = load(name)
    module = build(network).eval()
    state = module.state_dict()
    module.load_state_dict({key: drawn_weight(key, tuple(tensor.shape)) for key, tensor in state.items()})
    export(network, module, tmp_path / "model.onnx", served=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for run in reference(name)["runs"]:
        inputs = {key: drawn_input(key, tuple(shape)) for key, shape in run["input"].items()}
        with torch.inference_mode():
            output = module(*inputs.values()).numpy()
        assert difference(output, run["output"]) <= TOLERANCE
        (served,) = session.run(None, {key: tensor.numpy() for key, tensor in inputs.items()})
        assert difference(served, run["output"]) <= TOLERANCE
