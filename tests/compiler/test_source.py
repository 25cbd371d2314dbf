"""The source that `compile` writes is the network: same state-dict, same drawn weights, same outputs to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from op_table import ROWS, Row
from test_ops import SIZES, inputs_of, network_of
from torch import nn

from compiler.module import build
from compiler.source.writing import python_source
from netspec import Network, load
from netspec.loading import check_source
from netspec.source import Source
from netspec.zoo import zoo

Run = Callable[..., subprocess.CompletedProcess[str]]
LIGHT = [
    name for name, path in zoo() if path.parent.name in ("digits", "course") or name in ("resnet18", "densenet121")
]


def module_of(source: str) -> Any:
    """The network of written source, with weights drawn from seed 0."""
    scope: dict[str, Any] = {"__name__": "written"}
    exec(compile(source, "written.py", "exec"), scope)
    last = [thing for thing in scope.values() if isinstance(thing, type) and issubclass(thing, nn.Module)][-1]
    torch.manual_seed(0)
    return last()


def assert_the_same(network: Network, sizes: dict[str, int]) -> str:
    source = python_source(network)
    written, ours = module_of(source), build(network, seed=0)
    theirs = written.state_dict()
    assert list(theirs) == [key for key, _ in network.state_dict()]
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs[key]), key
    written.load_state_dict(ours.state_dict())
    inputs = list(inputs_of(network, 2, sizes).values())
    with torch.inference_mode():
        results = [module.eval()(*inputs) for module in (ours, written)]
    for ours_given, theirs_given in zip(*(r if isinstance(r, tuple) else (r,) for r in results), strict=True):
        assert torch.equal(ours_given, theirs_given)
    assert "netspec" not in source.partition('"""\n')[2]
    return source


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_every_op_is_written_as_it_is(row: Row) -> None:
    assert_the_same(network_of(row), SIZES)


@pytest.mark.parametrize("name", LIGHT)
def test_networks_of_the_zoo_are_written_as_they_are(name: str) -> None:
    network = load(name)
    assert_the_same(network, network.sizes)


def test_a_block_is_a_class_with_its_arguments() -> None:
    source = python_source(load("resnet50"))
    assert source.count("class ") == 2
    assert "def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:" in source
    assert "self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)" in source
    assert "if stride != 1 or in_channels != 4*width else None" in source
    assert len(source.splitlines()) < 90


@pytest.mark.parametrize(
    "text",
    [
        "inputs: {a: {shape: [N, 4]}, b: {shape: [N, 4]}}\n"
        "net:\n  enc: {net: {fc: {linear: 3}, act: tanh}, from: a}\n  twin: {share: enc, from: b}\n"
        "  deep: {net: {again: {net: {fc: {share: enc.fc, from: b}, t: tanh, s: {add: [fc, t]}}}}}\n"
        "  all: {concat: [enc, twin, deep]}\n",
        "inputs: {x: {shape: [N, 4, 8, 8]}}\n"
        "blocks:\n  cross:\n    inputs: [l, r]\n    net: {a: {conv: 4, kernel: 1, from: l}, s: {add: [a, r]}}\n"
        "    outputs: {l: s, r: a}\n"
        "net:\n  stack: {repeat: 2, cross: , from: [x, x]}\n  head: {conv: 2, kernel: 1, over: stack}\n",
        "inputs: {x: {shape: [N, 4, 8, 8]}}\n"
        "net:\n  half: {conv: 4, kernel: 3}\n  type: [relu, {maxpool: 2, stride: 1}, {conv: 4, kernel: 1, from: in}]\n"
        "  r: {residual: [{conv: 6, kernel: 3, stride: 2, padding: 1}, relu]}\n"
        "  d: {repeat: 3, connect: dense, conv: 2, kernel: 1}\n",
        "inputs: {x: {shape: [N, 4, 8, 8]}}\n"
        "blocks:\n  unit:\n    args: {width: int, act: {type: layer, default: relu}, deep: 1}\n"
        "    net: {convs: {repeat: deep, conv: width, kernel: 1}, act: act, more: {when: deep > 1, tanh: }}\n"
        "net: {a: {unit: 4}, b: {unit: 6, act: tanh}, c: {unit: 8, deep: 3}, d: {unit: 5}}\n",
        "inputs: {x: {shape: [N, 8]}}\nnet: {a: {net: [{linear: 4}, relu]}, b: {linear: 4, from: x}}\n",
        "inputs: {_: {shape: [N, 8]}}\n"
        "net: {a: {split: [left, right]}, b: {relu, from: a.right}, c: {linear: 2, from: _}, d: {add: [b, b]}}\n",
        "inputs: {x: {shape: [N, 4, 8, 8]}}\n"
        "blocks:\n  up:\n    args: {factor: int}\n    net: [{conv_transpose: in.channels, kernel: 2*factor, "
        "stride: factor, init: bilinear}]\n"
        "net: {a: {up: 2}, b: {up: 4}, c: {up: 2}}\n",
    ],
    ids=[
        "shared",
        "several tensors",
        "awkward names",
        "blocks that differ",
        "a container that nothing reads",
        "parts that nothing reads",
        "interpolation that is learnt on",
    ],
)
def test_wiring_of_every_kind_is_written_as_it_is(text: str) -> None:
    checked = check_source(Source("spec.yaml", "netspec: 1\n" + text))
    assert checked.network is not None, checked.diagnostics
    assert_the_same(checked.network, SIZES)


def test_a_result_that_nothing_reads_has_no_name() -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 9]}}\nnet: {a: {split: [l, m, r]}, b: {tanh, from: a.m}}\n"
    network = check_source(Source("spec.yaml", text)).network
    assert network is not None
    assert "_, x, _ = self.a(x)" in python_source(network)


def test_a_container_that_nothing_reads_returns_nothing() -> None:
    unread = "a: {residual: [{conv: 2, kernel: 1}]}, b: {conv: 4, kernel: 1, from: x}"
    text = f"netspec: 1\ninputs: {{x: {{shape: [N, 3, 8, 8]}}}}\nnet: {{{unread}}}\n"
    network = check_source(Source("spec.yaml", text)).network
    assert network is not None
    source = assert_the_same(network, SIZES)
    assert "def forward(self, x: Tensor) -> None:" in source
    assert source.count("return") == 1


def test_text_from_a_spec_does_not_run() -> None:
    name = 'x\\"""\nraise SystemExit(3)\n"""'
    text = (
        f'netspec: 1\nname: {name!r}\nsource: \'""" + 1/0 + """\'\ninputs: {{x: {{shape: [N, 4]}}}}\nnet: {{a: relu}}\n'
    )
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, checked.diagnostics
    module_of(python_source(checked.network))


def test_the_file_runs_by_itself(netspec: Run, tmp_path: Path) -> None:
    done = netspec("compile", "lenet5", "-o", "net.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([sys.executable, "net.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.strip() == "torch.Size([1, 10])", ran.stderr
    assert netspec("compile", "lenet5", cwd=tmp_path).stdout == (tmp_path / "net.py").read_text()


def test_a_file_that_can_not_be_written_is_told(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = netspec("compile", "mlp", "-o", "file/net.py", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
