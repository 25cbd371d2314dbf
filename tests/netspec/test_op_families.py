"""The ops as a whole: which there are, what is imported for them, and what their units see."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest

import netspec
from netspec.explain import explain_layer
from netspec.loading import check_source
from netspec.ops.base import Op, discover
from netspec.source import Source
from netspec.summary import summarise


def network_of(*net: str, inputs: str = "x: {shape: [N, 8, H, W], sizes: {H: 32, W: 32}}") -> netspec.Network:
    text = "\n".join(["netspec: 1", f"inputs: {{{inputs}}}", "net:", *(f"  {line}" for line in net)])
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def field(network: netspec.Network, path: str) -> object:
    found = network.layer(path)["receptive_field"]
    return found if found is None else network.concrete(found.size)


def test_a_spec_imports_the_families_that_it_uses() -> None:
    code = (
        "import sys, netspec; netspec.load('lenet5'); print(*(m for m in sys.modules if m.startswith('netspec.ops.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert {"convolution", "linear"} <= loaded
    assert not loaded & {"attention", "resampling", "shaping", "arithmetic", "table"}


def test_every_op_is_found_by_its_name_alone() -> None:
    code = "import sys; from netspec.ops.base import discover; assert discover()[sys.argv[1]].kind == sys.argv[1]"
    for kind in ("attention", "conv_transpose", "log_softmax", "min"):  # of families of their own and with others
        subprocess.run([sys.executable, "-c", code, kind], check=True)
    assert all(op.kind == kind for kind, op in discover().items())
    assert {op.__module__ for op in discover().values()} >= {"netspec.ops.attention", "netspec.ops.convolution"}


def test_an_op_by_the_name_of_another_is_refused_even_before_that_is_imported() -> None:
    code = (
        "import sys; from typing import ClassVar; from netspec.ops.base import Op\n"
        "try:\n"
        "    class Mine(Op):\n"
        "        kind: ClassVar[str] = 'attention'\n"
        "except TypeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "two ops are called 'attention': netspec.ops.attention and __main__"
    with pytest.raises(TypeError, match="two ops are called 'relu'"):

        class Mine(Op):
            kind: ClassVar[str] = "relu"


def test_ops_that_only_arrange_take_every_element_type_and_embeddings_whole_numbers() -> None:
    ops = discover()
    for kind in ("reshape", "flatten", "permute", "concat", "slice", "identity", "cast"):
        assert set(ops[kind].reads) >= {"float32", "int64", "uint8", "bool"}, kind
    assert ops["embedding"].reads == ("int64", "int32")
    assert ops["conv"].reads == ops["add"].reads == ("float32",)


def test_upsampling_brings_units_closer_than_pixels() -> None:
    network = network_of(
        "up: {upsample: 4}",
        "conv: {conv: 8, kernel: 3}",
        "again: {conv: 8, kernel: 4}",
        "down: {maxpool: 4}",
        "last: {conv: 8, kernel: 3}",
    )
    # units a quarter of a pixel apart: 1, 1 + 2/4, 1½ + 3/4, 2¼ + 3/4, and once more whole pixels apart
    assert [field(network, path) for path in ("up", "conv", "again", "down", "last")] == [
        (1, 1), (2, 2), (3, 3), (3, 3), (5, 5),
    ]  # fmt: skip
    lines = {line.what: str(line) for line in explain_layer(network, "again")}
    assert lines["receptive field"] == "⌈3/2 + (4 − 1)·1/4⌉ = 3"
    assert summarise(network)["layers"][1]["receptive_field"] == [2, 2]


def test_a_transposed_convolution_reads_as_many_units_as_its_strides_leave() -> None:
    network = network_of("down: {conv: 8, kernel: 2, stride: 2}", "up: {conv_transpose: 8, kernel: 3, stride: 2}")
    assert field(network, "up") == (2 + (2 - 1) * 2,) * 2
    assert network.layer("up")["macs"] == 3 * 3 * 8 * 8 * network.layer("down")["macs"] // (2 * 2 * 8 * 8)


def test_a_map_resized_to_another_has_that_ones_jump() -> None:
    network = network_of(
        "fine: {conv: 8, kernel: 3, padding: 1}",
        "coarse: {conv: 8, kernel: 3, stride: 2, padding: 1}",
        "back: {resize_like: [coarse, fine], mode: bilinear}",
        "conv: {conv: 8, kernel: 3}",
    )
    assert [field(network, path) for path in ("coarse", "back", "conv")] == [(5, 5), (5 + 2,) * 2, (7 + 2,) * 2]


def test_where_axes_are_no_longer_the_inputs_there_is_no_receptive_field() -> None:
    network = network_of(
        "patches: {conv: 8, kernel: 4, stride: 4}",
        "rows: {reshape: [8, -1]}",
        "tokens: {permute: [2, 1]}",
        "mix: {attention: 2}",
        "conv: {conv: 4, kernel: 1, from: mix}",
        inputs="x: {shape: [N, 8, 32, 32]}",
    )
    assert field(network, "patches") == (4, 4)
    assert [field(network, path) for path in ("rows", "tokens", "mix", "conv")] == [None] * 4


def test_means_see_the_whole_axis() -> None:
    network = network_of("mean: {mean: [2, 3]}", inputs="x: {shape: [N, 8, 32, 16]}")
    assert network.layer("mean")["output"].shape[1:] == (8,)
    assert field(network, "mean") == (32, 16)


def test_free_sizes_stay_free() -> None:
    network = network_of(
        "same: {conv: 8, kernel: 3, stride: 2, padding: same}",
        "rows: {reshape: [4, 2, -1]}",
        "part: {slice: -1, stop: -1}",
    )
    assert str(network.layer("same")["output"].shape[2]) == "floor((H + 1)/2)"
    assert str(network.layer("part")["output"].shape[3]).endswith("- 1")


def test_attention_is_worked_out_by_hand() -> None:
    network = network_of("mix: {attention: 4}", inputs="x: {shape: [N, 10, 16]}")
    lines = {line.what: line.result for line in explain_layer(network, "mix")}
    assert lines["features a head"] == "4"
    assert lines["parameters"] == f"{4 * 16 * 16 + 4 * 16:,}"
    assert lines["MACs"] == f"{4 * 10 * 16 * 16 + 2 * 10 * 10 * 16:,}"
