"""Modules that are applied several times, and containers with several inputs and outputs, against PyTorch by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from compiler.export import export
from compiler.module import build
from netspec import Network, load
from netspec.loading import check_source
from netspec.source import Source


def network_of(text: str) -> Network:
    checked = check_source(Source("spec.yaml", "netspec: 1\n" + text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def agrees(network: Network, reference: nn.Module, inputs: dict[str, Tensor], folder: Path) -> nn.Module:
    """Both modules have one state-dict, and both and ONNX Runtime give the same for the same weights."""
    module = build(network).eval()
    theirs = {key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    assert {key: weight.shape for key, weight in network.state_dict()} == theirs
    assert {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()} == theirs
    assert network.parameters() == sum(parameter.numel() for parameter in module.parameters())
    reference.load_state_dict(module.state_dict())
    given = build(network, seed=1, weights=module.state_dict()).state_dict()
    torch.testing.assert_close(given, module.state_dict(), rtol=0, atol=0)
    with torch.inference_mode():
        found, expected = module(*inputs.values()), reference.eval()(*inputs.values())
    as_tuple = (found,) if isinstance(found, Tensor) else found
    for ours, want in zip(as_tuple, (expected,) if isinstance(expected, Tensor) else expected, strict=True):
        torch.testing.assert_close(ours, want)
    export(network, module, folder / "net.onnx")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    for ours, want in zip(session.run(None, {k: v.numpy() for k, v in inputs.items()}), as_tuple, strict=True):
        np.testing.assert_allclose(ours, want.numpy(), rtol=1e-4, atol=1e-5)
    return module


def test_a_siamese_network_has_one_encoder(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {left: {shape: [N, 3, H, W]}, right: {shape: [N, 3, H, W]}}\n"
        "net:\n"
        "  encoder: {net: {conv: {conv: 4, kernel: 3}, act: relu, pool: global_avgpool, flat: flatten}, from: left}\n"
        "  twin: {share: encoder, from: right}\n"
        "  both: {concat: [encoder, twin]}\n"
        "  fc: {linear: 2}\n"
    )

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential()
            self.encoder.add_module("conv", nn.Conv2d(3, 4, 3))
            self.fc = nn.Linear(8, 2)

        def encode(self, x: Tensor) -> Tensor:
            return self.encoder(x).relu().mean((2, 3))

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.fc(torch.cat([self.encode(left), self.encode(right)], 1))

    inputs = {"left": torch.randn(2, 3, 8, 8), "right": torch.randn(2, 3, 9, 7)}
    module = agrees(network, Siamese(), inputs, tmp_path)
    copied = copy.deepcopy(module)
    with torch.no_grad():
        copied.encoder.conv.weight.zero_()
    assert not torch.equal(copied(*inputs.values()), module(*inputs.values()))
    assert copied(inputs["left"], inputs["right"]).equal(copied(inputs["right"], inputs["left"]))


def test_one_head_over_several_levels_of_a_pyramid(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {image: {shape: [N, 3, H, W], sizes: {H: 16, W: 16}}}\n"
        "blocks:\n"
        "  head:\n"
        "    args: {anchors: int}\n"
        "    net: {conv: {conv: 4, kernel: 3, padding: 1}, relu: relu, logits: {conv: anchors, kernel: 1}, "
        "deltas: {conv: 4*anchors, kernel: 1, from: relu}}\n"
        "    outputs: [logits, deltas]\n"
        "net:\n"
        "  backbone:\n"
        "    net: {c1: {conv: 4, kernel: 3, stride: 2, padding: 1}, c2: {conv: 8, kernel: 3, stride: 2, padding: 1}}\n"
        "  neck:\n"
        "    from: {fine: backbone.c1, coarse: backbone}\n"
        "    net: {p1: {conv: 4, kernel: 1, from: fine}, p2: {conv: 4, kernel: 1, from: coarse}}\n"
        "    outputs: [p1, p2]\n"
        "  rpn: {head: 3, over: neck}\n"
        "outputs: {a: rpn.p1.logits, b: rpn.p2.logits, c: rpn.p1.deltas, d: rpn.p2.deltas}\n"
    )

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.ModuleDict(
                {"c1": nn.Conv2d(3, 4, 3, 2, padding=1), "c2": nn.Conv2d(4, 8, 3, 2, padding=1)}
            )
            self.neck = nn.ModuleDict({"p1": nn.Conv2d(4, 4, 1), "p2": nn.Conv2d(8, 4, 1)})
            self.rpn = nn.ModuleDict(
                {"conv": nn.Conv2d(4, 4, 3, padding=1), "logits": nn.Conv2d(4, 3, 1), "deltas": nn.Conv2d(4, 12, 1)}
            )

        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            fine = self.backbone["c1"](image)
            levels = [self.neck["p1"](fine), self.neck["p2"](self.backbone["c2"](fine))]
            hidden = [self.rpn["conv"](level).relu() for level in levels]
            return (*map(self.rpn["logits"], hidden), *map(self.rpn["deltas"], hidden))

    agrees(network, Detector(), {"image": torch.randn(2, 3, 20, 12)}, tmp_path)
    assert network.parameters("rpn") == (4 * 4 * 9 + 4) + (4 * 3 + 3) + (4 * 12 + 12)


def test_a_layer_may_be_shared_from_inside_another_container_and_turn_after_turn(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {x: {shape: [N, 6]}}\n"
        "net:\n"
        "  stem: {net: {first: {linear: 6}, act: tanh}}\n"
        "  again: {repeat: 2, net: {fc: {share: stem.first}, act: sigmoid}}\n"
        "  last: {repeat: 2, share: stem}\n"
    )

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.ModuleDict({"first": nn.Linear(6, 6)})

        def forward(self, x: Tensor) -> Tensor:
            fc = self.stem["first"]
            x = fc(fc(fc(x).tanh()).sigmoid()).sigmoid()
            return fc(fc(x).tanh()).tanh()

    module = agrees(network, Recurrent(), {"x": torch.randn(3, 6)}, tmp_path)
    module.train()(torch.randn(2, 6)).sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is not None] == [
        "stem.first.weight",
        "stem.first.bias",
    ]


def test_a_block_of_several_inputs_and_outputs_may_repeat(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {a: {shape: [N, 4]}, b: {shape: [N, 4]}}\n"
        "blocks:\n"
        "  cross:\n"
        "    inputs: [left, right]\n"
        "    net: {l: {linear: 4, from: left}, r: {linear: 4, from: right}, "
        "s: {add: [l, right]}, t: {multiply: [r, left]}}\n"
        "    outputs: {left: s, right: t}\n"
        "net:\n"
        "  stack: {repeat: 3, cross: , from: {right: b, left: a}}\n"
        "outputs: [stack.left, stack.right]\n"
    )

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            turns = [nn.ModuleDict({"l": nn.Linear(4, 4), "r": nn.Linear(4, 4)}) for _ in range(3)]
            self.stack = nn.ModuleList(turns)

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            for turn in self.stack:
                a, b = turn["l"](a) + b, turn["r"](b) * a
            return a, b

    agrees(network, Crossed(), {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}, tmp_path)


def test_a_residual_container_projects_its_shortcut_where_the_shape_changes(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {x: {shape: [N, 4, H, W], sizes: {H: 8, W: 8}}}\n"
        "net:\n"
        "  same: {residual: {conv: {conv: 4, kernel: 3, padding: 1}}}\n"
        "  down: {residual: [{conv: 6, kernel: 3, stride: 2, padding: 1}, relu, {conv: 6, kernel: 1}]}\n"
        "  own:\n"
        "    residual: [{conv: 8, kernel: 3, stride: 2, padding: 1}]\n"
        "    shortcut: [{avgpool: out.stride}, {conv: out.channels, kernel: 1, bias: false}]\n"
        "  flat: flatten\n"
    )

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, padding=1)})
            self.down = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 1))
            self.down.add_module("shortcut", nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6)))
            self.own = nn.ModuleList([nn.Conv2d(6, 8, 3, 2, 1)])
            self.own.add_module("shortcut", nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(6, 8, 1, bias=False)))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.same["conv"](x)
            x = self.down[:3](x) + self.down.shortcut(x)
            return (self.own[0](x) + self.own.shortcut(x)).flatten(1)

    agrees(network, Residual(), {"x": torch.randn(2, 4, 8, 8)}, tmp_path)


def test_a_layer_given_as_an_argument_is_that_layer(tmp_path: Path) -> None:
    network = network_of(
        "inputs: {x: {shape: [N, 4, 8, 8]}}\n"
        "args: {norm: {type: layer, default: {groupnorm: 2}}}\n"
        "blocks:\n"
        "  unit:\n"
        "    args: {width: int, norm: layer, act: {type: layer, default: relu}, inner: {type: layer, default: conv}}\n"
        "    net: {conv: {inner: width, kernel: 1}, norm: norm, act: act}\n"
        "net:\n"
        "  a: {unit: 6, norm: norm}\n"
        "  b: {unit: 6, norm: batchnorm, act: {net: [tanh, {elu: 0.5}]}}\n"
    )
    kinds = {path: layer["op"].kind for path, layer in network.layers() if layer["op"]}
    assert kinds == {
        "a.conv": "conv", "a.norm": "groupnorm", "a.act": "relu",
        "b.conv": "conv", "b.norm": "batchnorm", "b.act.0": "tanh", "b.act.1": "elu",
    }  # fmt: skip
    assert network.layer("b.act.1")["arguments"]["alpha"] == 0.5
    changed = check_source(Source("spec.yaml", network.text)).network
    assert changed is not None


def test_the_squeeze_and_excitation_block_scales_channels(tmp_path: Path) -> None:
    spec = tmp_path / "se.yaml"
    blocks = Path(__file__).resolve().parents[2] / "specs" / "blocks" / "attention.yaml"
    spec.write_text(
        f"netspec: 1\nuse: {blocks}\ninputs: {{x: {{shape: [N, 8, H, W], sizes: {{H: 5, W: 6}}}}}}\n"
        "net: {conv: {conv: 8, kernel: 3}, se: {squeeze_excitation: 4, gate: hardsigmoid}}\n"
    )

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3)
            self.se = nn.ModuleDict({"fc1": nn.Conv2d(8, 2, 1), "fc2": nn.Conv2d(2, 8, 1)})

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            seen = self.se["fc1"](x.mean((2, 3), keepdim=True)).relu()
            return x * nn.functional.hardsigmoid(self.se["fc2"](seen))

    agrees(load(spec), Gated(), {"x": torch.randn(2, 8, 7, 6)}, tmp_path)
