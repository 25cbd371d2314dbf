"""The dynamic axes of an exported file work at every size that the spec allows, from the least on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compiler.export import export
from compiler.module import build
from netspec import Model, SpecError, check, load
from netspec.loading import check_source
from netspec.source import Source

FUSED = (  # two levels of a pyramid: H and W have to be multiples of 4
    "netspec: 1\ninputs: {image: {shape: [N, 3, H, W], sizes: {H: 32, W: 32}}}\nnet:\n"
    "  fine: {conv: 4, kernel: 3, padding: 1}\n"
    "  half: {conv: 4, kernel: 2, stride: 2}\n"
    "  coarse: {conv: 4, kernel: 2, stride: 2}\n"
    "  up: {conv_transpose: 4, kernel: 4, stride: 4}\n"
    "  sum: {add: [up, fine]}\n"
)


def fused() -> Model:
    network = check_source(Source("fused.yaml", FUSED)).network
    assert network is not None
    return Model.of(network)


NETWORKS = {
    "alexnet": lambda: load("alexnet", classes=5),
    "densenet121": lambda: load("densenet121", growth=4, initial=8, depths=[1, 2, 1, 1]),
    "googlenet": lambda: load("googlenet", classes=5),
    "nin": lambda: load("nin"),
    "resnet18": lambda: load("resnet18", width=8),
    "resnet18_preact": lambda: load("resnet18_preact", width=8),
    "vgg11": lambda: load("vgg11", classes=5),
    "fused": fused,
}


def least_and_step(model: Model) -> dict[str, tuple[int, int]]:
    found = {"H": (1, 1), "W": (1, 1)}
    for need in model.needs():
        found[need.name] = (need.least, need.step)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_size_from_the_least_on_works(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    module = build(model).eval()
    export(model, module, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (high, step_h), (wide, step_w) = least_and_step(model)["H"], least_and_step(model)["W"]
    for rows, columns in ((0, 0), (1, 3), (17, 2)):
        image = torch.randn(2, 3, high + rows * step_h, wide + columns * step_w)
        with torch.inference_mode():
            expected = module(image).numpy()
        (found,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "fused"])
def test_a_size_below_the_least_is_refused_with_what_is_needed(name: str) -> None:
    model = NETWORKS[name]()
    high, wide = (size for size, _ in least_and_step(model).values())
    arguments = {key: value for key, value in model.arguments.items() if not isinstance(value, str)}
    if high == 1:
        return
    with pytest.raises(SpecError) as caught:
        load(name, inputs=[f"image=1x3x{high - 1}x{wide}"], **arguments)
    assert any(f"`H` is at least {high}" in note for note in caught.value.diagnostics[0].notes)


def test_what_is_no_multiple_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "fused.yaml"
    path.write_text(FUSED)
    assert [str(need) for need in fused().needs()] == [
        "`H` is a multiple of 4 (`sum`)",
        "`W` is a multiple of 4 (`sum`)",
    ]
    (found,) = check(path, inputs=["image=1x3x30x32"]).diagnostics
    assert found.code == "shape-mismatch"
    assert {label.text for label in found.labels} == {"`up` gives N × 4 × 28 × 32", "`fine` gives N × 4 × 30 × 32"}
    assert "what the network needs: `H` is a multiple of 4 (`sum`)" in found.notes


def test_a_coarser_level_meets_a_finer_one_at_every_size(tmp_path: Path) -> None:
    """The nearest unit is PyTorch's, whose places are rounded, of every length that is halved by a stride of 2."""
    text = (
        "netspec: 1\ninputs: {x: {shape: [N, 1, H, 1], sizes: {H: 9}}}\n"
        "net: {half: {maxpool: 1, stride: [2, 1]}, full: {resize_like: [half, x]}}\n"
    )
    network = check_source(Source("halved.yaml", text)).network
    assert network is not None
    module = build(network).eval()
    export(network, module, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    for length in (*range(1, 300), 1333, 4095, 8191, 8192):
        x = torch.arange(float(length)).reshape(1, 1, length, 1)
        (found,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_array_equal(found, module(x).numpy())
