"""`netspec.load(…)` as programs and notebooks use it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from rich.console import Console

import netspec


def test_arguments_are_keywords() -> None:
    model = netspec.load("resnet50", classes=10, depths=[1, 1, 1, 1], unit="bottleneck")
    assert model.arguments["classes"] == 10
    assert model.graph.nodes["fc"]["output"].shape[1] == 10
    assert sum(1 for path in model.containers if path.count(".") == 1 and path.startswith("layer")) == 4
    with pytest.raises(netspec.SpecError, match="no argument `clases`"):
        netspec.load("resnet50", clases=10)


def test_a_layer_may_be_given_with_its_arguments(tmp_path: Path) -> None:
    text = "netspec: 1\nargs: {norm: layer}\ninputs: {x: {shape: [N, 4, 8, 8]}}\nnet: {a: norm}\n"
    path = tmp_path / "norm.yaml"
    path.write_text(text)
    model = netspec.load(path, norm={"groupnorm": 2})
    assert model.layer("a")["arguments"]["groups"] == 2
    assert model.arguments == {"norm": '{"groupnorm": 2}'}


def test_what_a_notebook_shows() -> None:
    model = netspec.load("lenet5")
    assert repr(model) == "<lenet5: 12 layers, 61,706 parameters>"
    html = model._repr_html_()
    assert "<td>conv1</td>" in html and "61,706" in html and html.count("<tr>") == 13
    console = Console(file=io.StringIO(), width=140)
    console.print(model)
    assert "conv1" in console.file.getvalue()
    assert "| conv1 | conv |" in str(model.summary())
    assert model.summary().data["parameters"] == 61_706
    assert model.explain("fc2")[1] == "parameters: 120×84 + 84 = 10,164"
    assert model.draw()._repr_svg_().lstrip().startswith("<")


def test_names_from_a_spec_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("netspec: 1\nname: '<script>alert(1)</script>'\ninputs: {x: {shape: [N, 4]}}\nnet: {a: relu}\n")
    assert "<script>" not in netspec.load(path)._repr_html_()


def test_a_module_a_file_and_a_picture(tmp_path: Path) -> None:
    model = netspec.load("lenet5", classes=7)
    module = model.torch(seed=3)
    written = model.onnx(tmp_path / "net.onnx", module)
    image = torch.randn(2, 1, 28, 28)
    with torch.inference_mode():
        expected = module.eval()(image).numpy()
    session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], expected, rtol=1e-4, atol=1e-5)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    again = model.torch(tmp_path / "net.pth")
    assert torch.equal(again.eval()(image), module(image))
    model.draw(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text().count("conv1")
    with pytest.raises(Exception, match="no ending of a picture"):
        model.draw(tmp_path / "net.jpg")
    assert "class Lenet5(nn.Module):" in model.source()


def test_needs_are_told() -> None:
    assert [str(need) for need in netspec.load("vgg16").needs()] == [
        "`H` is at least 32 (`features.30`)",
        "`W` is at least 32 (`features.30`)",
    ]


def test_looking_at_a_model_loads_neither_pytorch_nor_onnx() -> None:
    code = (
        "import sys, netspec; m = netspec.load('resnet50', classes=3); repr(m); m._repr_html_(); m.explain('fc')\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
