"""What specs mean: the modules that they draw, what each reads, and the shapes that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

import netspec
from netspec import Network, SpecError
from netspec.ops.base import Op, discover
from netspec.tensor import TensorType

Load = Callable[..., Network]
RGB = "inputs: {image: {shape: [N, 3, 32, 32]}}\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """The network of a text; `netspec: 1` and an RGB input stand before it unless it has its own."""

    def from_text(text: str, *settings: str) -> Network:
        path = tmp_path / "spec.yaml"
        path.write_text("netspec: 1\n" + ("" if "inputs:" in text else RGB) + text, encoding="utf-8")
        return netspec.load(path, *settings)

    return from_text


def reads(network: Network) -> dict[str, list[str]]:
    """What every layer reads."""
    return {path: list(layer["inputs"]) for path, layer in network.layers()}


def shape(network: Network, path: str) -> str:
    return " ".join(str(size) for size in network.layer(path)["output"].shape)


def keys(network: Network) -> list[str]:
    return [key for key, _ in network.state_dict()]


# -- sequence, from, in, lists


def test_a_layer_reads_the_one_above(load: Load) -> None:
    network = load("net: {a: {conv: 8, kernel: 3}, b: relu, c: {conv: 4, kernel: 1}}")
    assert reads(network) == {"a": ["image"], "b": ["a"], "c": ["b"]}
    assert network.outputs == {"c": "c"}
    assert list(network.graph.edges) == [("image", "a"), ("a", "b"), ("b", "c")]


def test_from_names_another(load: Load) -> None:
    network = load(
        "net:\n"
        "  a: {conv: 8, kernel: 1}\n"
        "  b: {conv: 8, kernel: 1, from: image}\n"
        "  c: {conv: 8, kernel: 1, from: a}\n"
        "  d: {add: [b, c]}\n"
        "  e: {concat: [a, d, in]}\n"
    )
    assert reads(network) == {"a": ["image"], "b": ["image"], "c": ["a"], "d": ["b", "c"], "e": ["a", "d", "image"]}
    assert shape(network, "e") == "N 19 32 32"


def test_inserting_a_layer_rewires_nothing_that_is_named(load: Load) -> None:
    before = "net: {a: {conv: 8, kernel: 1}, b: {conv: 8, kernel: 1}, c: {add: [a, b]}}"
    after = "net: {a: {conv: 8, kernel: 1}, new: relu, b: {conv: 8, kernel: 1}, c: {add: [a, b]}}"
    assert reads(load(before))["c"] == reads(load(after))["c"] == ["a", "b"]


def test_a_list_is_numbered_as_in_nn_sequential(load: Load) -> None:
    network = load("net: [{conv: 8, kernel: 3, bias: false}, batchnorm, relu, [{conv: 4, kernel: 1}, relu]]")
    assert reads(network) == {"0": ["image"], "1": ["0"], "2": ["1"], "3.0": ["2"], "3.1": ["3.0"]}
    assert keys(network) == [
        "0.weight",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "3.0.weight",
        "3.0.bias",
    ]
    assert network.containers["3"].kind == "net"


def test_a_layer_may_be_called_by_a_number_and_is_read_from_outside(load: Load) -> None:
    network = load(
        "net:\n"
        "  levels: {net: {0: {conv: 4, kernel: 1}, 2: [{conv: 5, kernel: 1, from: image}]}}\n"
        "  first: {conv: 6, kernel: 1, from: levels.0}\n"
        "  both: {concat: [first, levels.2]}\n"
    )
    assert [key for key, _ in network.state_dict()][:4:2] == ["levels.0.weight", "levels.2.0.weight"]
    assert reads(network)["first"] == ["levels.0"]
    with pytest.raises(SpecError, match="`0` is a position"):
        load("net: {levels: {net: {0: {conv: 4, kernel: 1}, 1: {add: [0, 0]}}}}")


def test_in_is_what_the_container_reads(load: Load) -> None:
    network = load(
        "net:\n"
        "  stem: {conv: 8, kernel: 1}\n"
        "  body:\n"
        "    net:\n"
        "      left: {conv: 8, kernel: 1}\n"
        "      right: {conv: 8, kernel: 1, from: in}\n"
        "      inner: {net: [{conv: 8, kernel: 1}, {add: [in, left]}]}\n"
        "  last: {add: [body, stem]}\n"
    )
    assert reads(network) == {
        "stem": ["image"],
        "body.left": ["stem"],
        "body.right": ["stem"],
        "body.inner.0": ["body.right"],
        "body.inner.1": ["body.right", "body.left"],
        "last": ["body.inner.1", "stem"],
    }


def test_a_path_leads_into_containers(load: Load) -> None:
    network = load(
        "net:\n"
        "  backbone: {net: {c1: {conv: 8, kernel: 1}, c2: {repeat: 3, net: {c: {conv: 8, kernel: 1}}}}}\n"
        "  sum: {add: [backbone.c1, backbone.c2.1, backbone.c2.0.c, backbone]}\n"
    )
    assert reads(network)["sum"] == ["backbone.c1", "backbone.c2.1.c", "backbone.c2.0.c", "backbone.c2.2.c"]


def test_several_inputs_and_outputs(load: Load) -> None:
    network = load(
        "inputs: {left: {shape: [N, 4]}, right: {shape: [N, 6]}}\n"
        "net:\n"
        "  a: {linear: 5, from: left}\n"
        "  b: {linear: 5, from: right}\n"
        "  both: {add: [a, b]}\n"
        "  head: {linear: 2}\n"
        "outputs: {logits: head, features: both}\n"
    )
    assert network.inputs == ("left", "right")
    assert network.outputs == {"logits": "head", "features": "both"}
    assert load("net: {a: relu, b: {net: {c: relu}}}\noutputs: [a, b]").outputs == {"a": "a", "b": "b.c"}


# -- blocks, repeat, when

BASIC = """blocks:
  basic:
    args: {width: int, stride: 1}
    net:
      conv1: {conv: width, kernel: 3, stride: stride, padding: 1, bias: false}
      conv2: {conv: width, kernel: 3, padding: 1, bias: false}
      downsample:
        when: stride != 1 or in.channels != width
        from: in
        net: [{conv: width, kernel: 1, stride: stride, bias: false}]
      add: {add: [conv2, downsample]}
"""


def test_the_state_dict_of_a_residual_network_is_torchvisions(load: Load) -> None:
    network = load(
        "args: {width: 8}\n"
        + BASIC
        + "net: {layer1: {repeat: 2, basic: width}, layer2: {repeat: 2, basic: 2*width, stride: 2 if i == 0 else 1}}"
    )
    assert [(key, weight.shape) for key, weight in network.state_dict()] == [
        ("layer1.0.conv1.weight", (8, 3, 3, 3)),
        ("layer1.0.conv2.weight", (8, 8, 3, 3)),
        ("layer1.0.downsample.0.weight", (8, 3, 1, 1)),
        ("layer1.1.conv1.weight", (8, 8, 3, 3)),
        ("layer1.1.conv2.weight", (8, 8, 3, 3)),
        ("layer2.0.conv1.weight", (16, 8, 3, 3)),
        ("layer2.0.conv2.weight", (16, 16, 3, 3)),
        ("layer2.0.downsample.0.weight", (16, 8, 1, 1)),
        ("layer2.1.conv1.weight", (16, 16, 3, 3)),
        ("layer2.1.conv2.weight", (16, 16, 3, 3)),
    ]
    assert reads(network)["layer1.0.add"] == ["layer1.0.conv2", "layer1.0.downsample.0"]
    assert reads(network)["layer1.1.add"] == ["layer1.1.conv2", "layer1.0.add"]  # left out, it is its input
    assert reads(network)["layer2.0.downsample.0"] == ["layer1.1.add"]
    assert shape(network, "layer2.1.add") == "N 16 16 16"


def test_the_containers_of_the_tree(load: Load) -> None:
    network = load(BASIC + "net: {layer1: {repeat: 2, basic: 8}}")
    kinds = {path: (container.kind, container.arguments) for path, container in network.containers.items()}
    assert kinds == {
        "layer1": ("repeat", {"repeat": 2}),
        "layer1.0": ("basic", {"width": 8, "stride": 1}),
        "layer1.0.downsample": ("net", {}),
        "layer1.1": ("basic", {"width": 8, "stride": 1}),
    }


def test_the_way_through_the_blocks_is_kept(load: Load) -> None:
    network = load(BASIC + "net: {layer1: {repeat: 2, basic: 8}}")
    layer = network.layer("layer1.1.conv2")
    assert [(frame.path, frame.what) for frame in layer["expansion"]] == [("layer1.1", "basic")]
    assert (layer["span"].line, layer["expansion"][0].span.line) == (8, 14)


def test_a_repeat_of_an_op_and_of_none(load: Load) -> None:
    network = load("net: {a: {repeat: 3, conv: 2**(i+1), kernel: 1}, b: {repeat: 0, relu}, c: {linear: 4}}")
    assert [shape(network, f"a.{i}") for i in range(3)] == ["N 2 32 32", "N 4 32 32", "N 8 32 32"]
    assert reads(network) == {"a.0": ["image"], "a.1": ["a.0"], "a.2": ["a.1"], "c": ["a.2"]}


def test_the_index_of_the_inner_repeat_hides_the_outer(load: Load) -> None:
    network = load(
        "net:\n"
        "  a:\n"
        "    repeat: 2\n"
        "    net:\n"
        "      first: {conv: 10*(i+1), kernel: 1}\n"
        "      rest: {repeat: 2, conv: i+1, kernel: 1}\n"
        "      last: {conv: 100*(i+1), kernel: 1}\n"
    )
    channels = {path: layer["output"].shape[1] for path, layer in network.layers()}
    assert channels == {
        "a.0.first": 10, "a.0.rest.0": 1, "a.0.rest.1": 2, "a.0.last": 100,
        "a.1.first": 20, "a.1.rest.0": 1, "a.1.rest.1": 2, "a.1.last": 200,
    }  # fmt: skip


@pytest.mark.parametrize(("value", "there"), [("true", True), ("false", False), ("n > 3", True), ("n < 3", False)])
def test_when(load: Load, value: str, there: bool) -> None:
    network = load(f"args: {{n: 4}}\nnet: {{a: {{conv: n, kernel: 1}}, b: {{relu, when: {value}}}, c: tanh}}")
    assert ("b" in reads(network)) == there
    assert reads(network)["c"] == ["b" if there else "a"]


def test_a_block_within_a_block_reads_its_own_arguments(load: Load) -> None:
    network = load(
        "args: {width: 3}\n"
        "blocks:\n"
        "  inner: {args: {width: int, k: width}, net: {c: {conv: k, kernel: 1}}}\n"
        "  outer: {args: {width: int}, net: {one: {inner: 10*width}, two: {inner: width, k: 2*width}}}\n"
        "net: {a: {outer: width + 1}, b: {conv: width, kernel: 1}}\n"
    )
    channels = {path: layer["output"].shape[1] for path, layer in network.layers()}
    assert channels == {"a.one.c": 40, "a.two.c": 8, "b": 3}


def test_a_block_does_not_see_where_it_is_used(load: Load) -> None:
    with pytest.raises(SpecError, match="nothing is called `secret` here"):
        load("args: {secret: 3}\nblocks: {b: {net: {c: {conv: secret, kernel: 1}}}}\nnet: {a: b, d: {linear: secret}}")


def test_the_shape_that_comes_in(load: Load) -> None:
    network = load(
        "net:\n"
        "  a: {conv: in.channels*2, kernel: 3, stride: 2, padding: 1}\n"
        "  b:\n"
        "    net:\n"
        "      c: {conv: in.channels + in.height, kernel: in.width - 15}\n"
        "  d: {relu, when: in.rank == 4}\n"
    )
    assert shape(network, "a") == "N 6 16 16"
    assert shape(network, "b.c") == "N 22 16 16"
    assert "d" in reads(network)


FEED_FORWARD = """
inputs: {words: {shape: %s}}
blocks:
  feed_forward: {residual: [{linear: 4*in.features}, gelu, {linear: in.features}]}
net: {ff: feed_forward}
"""


@pytest.mark.parametrize(("given", "wide"), [("[N, 6, 16]", "N 6 64"), ("[N, T, 16]", "N T 64"), ("[N, 16]", "N 64")])
def test_the_features_that_come_in_are_the_last_axis_of_sequences_and_rows(load: Load, given: str, wide: str) -> None:
    assert shape(load(FEED_FORWARD % given), "ff.0") == wide


def test_maps_have_channels_and_no_features(load: Load) -> None:
    with pytest.raises(SpecError, match="`in` has no `features`"):
        load(FEED_FORWARD % "[N, 16, 8, 8]")


def test_one_size_is_not_taken_for_another_in_two_uses_of_a_block(load: Load) -> None:
    inputs = "inputs: {a: {shape: [N, 8, H, 16]}, b: {shape: [N, 8, 16, W]}}\n"
    block = "blocks: {wide: {net: {c: {conv: in.width, kernel: 1}}}}\n"
    assert shape(load(inputs + block + "net: {x: {wide: , from: a}}\noutputs: x"), "x.c") == "N 16 H 16"
    with pytest.raises(SpecError, match="`in` has no `width`"):
        load(inputs + block + "net: {x: {wide: , from: a}, y: {wide: , from: b}}\noutputs: [x, y]")


# -- arguments


def test_settings_replace_arguments(load: Load) -> None:
    text = "args: {width: 8, double: 2*width, ks: [3, 5], act: true}\n" + (
        "net: {a: {conv: double, kernel: 'ks[1]'}, b: {relu, when: act}, c: {conv: width, kernel: 'ks[0]'}}"
    )
    assert load(text).arguments == {"width": 8, "double": 16, "ks": (3, 5), "act": True}
    changed = load(text, "width=3", "ks=[1, 7]", "act=false")
    assert changed.arguments == {"width": 3, "double": 6, "ks": (1, 7), "act": False}
    assert reads(changed) == {"a": ["image"], "c": ["a"]}
    assert shape(changed, "c") == "N 3 26 26"


def test_settings_of_sections(load: Load) -> None:
    text = "net: [flatten, {linear: 10}]\ntrain: {data: digits, optimizer: {adam: 1e-3}, epochs: 3}\n"
    plain = load(text).sections["train"]
    assert (plain.numbers.epochs, plain.optimizer.kind, plain.optimizer.lr) == (3, "adam", 1e-3)
    changed = load(text, "train.epochs=7", "train.optimizer.weight_decay=0.5").sections["train"]
    assert (changed.numbers.epochs, changed.optimizer.lr, changed.optimizer.weight_decay) == (7, 1e-3, 0.5)
    other = load(text, "train.optimizer={sgd: 0.1, momentum: 0.9}").sections["train"]
    assert (other.optimizer.kind, other.optimizer.lr, other.optimizer.momentum) == ("sgd", 0.1, 0.9)


@pytest.mark.parametrize("optimizer", ["{adam: 1e-3, weight_decay: 0.1}", "{adam, lr: 1e-3, weight_decay: 0.1}"])
def test_the_argument_that_the_kind_itself_sets_can_be_set_by_its_name(optimizer: str, load: Load) -> None:
    text = f"net: [flatten, {{linear: 10}}]\ntrain: {{data: {{npz: a.npz}}, optimizer: {optimizer}}}\n"
    changed = load(text, "train.optimizer.lr=0.5", "train.data.path=b.npz").sections["train"]
    assert (changed.optimizer.lr, changed.optimizer.weight_decay, changed.data.path) == (0.5, 0.1, "b.npz")
    twice = load(text.replace("adam", "adamw"), "train.optimizer.lr=0.5", "train.optimizer.lr=0.25").sections["train"]
    assert twice.optimizer.lr == 0.25
    smoothed = load(text, "train.loss=cross_entropy", "train.loss.label_smoothing=0.1").sections["train"]
    assert smoothed.loss.label_smoothing == 0.1


def test_the_arguments_of_an_op_are_all_there(load: Load) -> None:
    layer = load("net: {a: {conv: 8, kernel: [3, 5], padding: same}}").layer("a")
    assert layer["arguments"] == {
        "channels": 8, "kernel": (3, 5), "stride": 1, "padding": "same", "dilation": 1, "groups": 1, "bias": True,
    }  # fmt: skip
    assert layer["weights"]["weight"].shape == (8, 3, 3, 5)


# -- shapes, known and free


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("{conv: 6, kernel: 5}", "N 6 28 28"),
        ("{conv: 6, kernel: 5, padding: 2}", "N 6 32 32"),
        ("{conv: 6, kernel: 7, stride: 2, padding: 3}", "N 6 16 16"),
        ("{conv: 6, kernel: 3, dilation: 2}", "N 6 28 28"),
        ("{conv: 6, kernel: [3, 1], stride: [2, 1]}", "N 6 15 32"),
        ("{conv: 6, kernel: 4, padding: same}", "N 6 32 32"),
        ("{maxpool: 3, stride: 2}", "N 3 15 15"),
        ("{maxpool: 3, stride: 2, ceil: true}", "N 3 16 16"),
        ("{maxpool: 3, stride: 2, padding: 1}", "N 3 16 16"),
        ("{avgpool: 2}", "N 3 16 16"),
        ("global_avgpool", "N 3 1 1"),
        ("flatten", "N 3072"),
        ("{linear: 7}", "N 3 32 7"),
        ("batchnorm", "N 3 32 32"),
        ("{softmax: -1}", "N 3 32 32"),
    ],
)
def test_shapes(load: Load, layer: str, expected: str) -> None:
    assert shape(load(f"net: {{a: {layer}}}"), "a") == expected


def test_free_dimensions_go_through(load: Load) -> None:
    network = load(
        "inputs: {image: {shape: [N, 3, H, W], sizes: {H: 65, W: 33}}}\n"
        "net:\n"
        "  a: {conv: 8, kernel: 3, stride: 2, padding: 1}\n"
        "  b: {maxpool: 2}\n"
        "  c: global_avgpool\n"
        "  d: flatten\n"
        "  e: {linear: 10}\n"
    )
    assert shape(network, "a") == "N 8 floor((H + 1)/2) floor((W + 1)/2)"
    assert network.concrete(network.layer("a")["output"].shape) == ("N", 8, 33, 17)
    assert network.concrete(network.layer("b")["output"].shape) == ("N", 8, 16, 8)
    assert shape(network, "e") == "N 10"
    assert network.macs() == 3 * 3 * 3 * 8 * 33 * 17 + 80


@pytest.mark.parametrize("size", [*range(2, 12), 31, 32, 33])
@pytest.mark.parametrize("layer", ["{maxpool: 2, ceil: true}", "{maxpool: 3, stride: 2, padding: 1, ceil: true}"])
def test_a_free_size_gives_what_the_number_gives(load: Load, layer: str, size: int) -> None:
    free = load(f"inputs: {{x: {{shape: [N, 1, H, 32], sizes: {{H: {size}}}}}}}\nnet: {{a: {layer}}}")
    fixed = load(f"inputs: {{x: {{shape: [N, 1, {size}, 32]}}}}\nnet: {{a: {layer}}}")
    assert free.concrete(free.layer("a")["output"].shape) == fixed.concrete(fixed.layer("a")["output"].shape)


def test_strides_that_meet_again_at_every_size(load: Load) -> None:
    """Two convolutions of stride 2 and one of stride 4 give one size, whatever H is: the sum needs no number."""
    network = load(
        "inputs: {image: {shape: [N, 3, H, W]}}\n"
        "net:\n"
        "  a: {conv: 8, kernel: 3, stride: 2, padding: 1}\n"
        "  b: {conv: 8, kernel: 3, stride: 2, padding: 1}\n"
        "  c: {conv: 8, kernel: 1, stride: 4, from: in}\n"
        "  d: {add: [b, c]}\n"
    )
    assert network.layer("b")["output"] == network.layer("c")["output"]


# -- receptive fields, depth, an op of another package


def test_receptive_fields_of_alexnet(load: Load) -> None:
    """Worked out by hand with r' = r + (k − 1)·j and j' = j·s, from the first layer on."""
    network = load(
        "inputs: {image: {shape: [N, 3, 227, 227]}}\n"
        "net:\n"
        "  conv1: {conv: 96, kernel: 11, stride: 4}\n"  # 1 + 10·1 = 11, j = 4
        "  pool1: {maxpool: 3, stride: 2}\n"  # 11 + 2·4 = 19, j = 8
        "  conv2: {conv: 256, kernel: 5, padding: 2}\n"  # 19 + 4·8 = 51
        "  pool2: {maxpool: 3, stride: 2}\n"  # 51 + 2·8 = 67, j = 16
        "  conv3: {conv: 384, kernel: 3, padding: 1}\n"  # 67 + 2·16 = 99
        "  conv4: {conv: 384, kernel: 3, padding: 1}\n"  # 131
        "  conv5: {conv: 256, kernel: 3, padding: 1}\n"  # 163
        "  pool5: {maxpool: 3, stride: 2}\n"  # 163 + 2·16 = 195, j = 32
    )
    fields = {path: layer["receptive_field"] for path, layer in network.layers()}
    found = {path: field.size for path, field in fields.items() if field}
    by_hand = {
        "conv1": 11,
        "pool1": 19,
        "conv2": 51,
        "pool2": 67,
        "conv3": 99,
        "conv4": 131,
        "conv5": 163,
        "pool5": 195,
    }
    assert found == {path: (size, size) for path, size in by_hand.items()}
    assert shape(network, "pool5") == "N 256 6 6"


def test_the_receptive_field_of_branches_is_the_largest(load: Load) -> None:
    network = load(
        "net:\n"
        "  a: {conv: 8, kernel: 3, padding: 1}\n"
        "  b: {conv: 8, kernel: 5, padding: 2, from: in}\n"
        "  c: {conv: 8, kernel: 3, dilation: 3, padding: 3, from: in}\n"
        "  d: {concat: [a, b, c]}\n"
        "  e: {conv: 8, kernel: [1, 3]}\n"
    )
    fields = {path: layer["receptive_field"] for path, layer in network.layers()}
    sizes = {path: field.size for path, field in fields.items() if field}
    assert sizes == {"a": (3, 3), "b": (5, 5), "c": (7, 7), "d": (7, 7), "e": (7, 9)}


def test_depth_is_of_the_longest_path(load: Load) -> None:
    network = load(
        "net:\n"
        "  a: {conv: 8, kernel: 1}\n"
        "  b: {repeat: 3, conv: 8, kernel: 1}\n"
        "  c: {conv: 8, kernel: 1, from: a}\n"
        "  d: {add: [b, c]}\n"
        "  e: relu\n"
    )
    assert network.depth() == 4


@pytest.fixture
def vanish() -> Iterator[None]:
    class Vanish(Op):
        """An op whose shape rule leaves nothing."""

        kind: ClassVar[str] = "vanish"

        def output(self, *inputs: TensorType) -> TensorType:
            return inputs[0].with_shape(*inputs[0].shape[:2], 0, 0)

    yield
    del discover()["vanish"]


@pytest.mark.usefixtures("vanish")
def test_an_op_that_leaves_nothing_is_refused(load: Load) -> None:
    with pytest.raises(SpecError, match="`a` gives 0 along a dimension") as caught:
        load("net: {a: vanish}")
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["empty-output"]


def test_a_word_that_resembles_no_op_is_answered_with_where_the_ops_are_and_the_blocks(load: Load) -> None:
    with pytest.raises(SpecError) as caught:
        load("blocks: {mine: {net: [relu]}}\nnet: {a: transmogrify, b: mine}")
    assert caught.value.diagnostics[0].help == "`netspec list --ops` shows the ops; the blocks here are `mine`"


def test_a_library_of_blocks_is_valid_and_no_network(tmp_path: Path) -> None:
    path = tmp_path / "blocks.yaml"
    path.write_text("netspec: 1\nblocks: {b: {net: [relu]}}\n")
    assert netspec.check(path).valid
    with pytest.raises(SpecError, match="a library of blocks is no network") as caught:
        netspec.load(path)
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["library"]


def test_a_layer_that_is_an_argument_may_be_called_as_an_op_is(load: Load) -> None:
    text = (
        "blocks: {unit: {args: {relu: {type: layer, default: relu}}, net: {a: relu}}}\n"
        "net: {a: unit, b: {unit: , relu: tanh}, c: {unit: , relu: {leaky_relu: 0.2}}, d: {unit: , relu: relu}}"
    )
    network = load(text)
    assert [op.kind for op in (layer["op"] for _, layer in network.layers()) if op] == [
        "relu", "tanh", "leaky_relu", "relu",
    ]  # fmt: skip
