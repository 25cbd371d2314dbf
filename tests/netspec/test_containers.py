"""Branches, dense connection, and specs that are built on others: what they are wired to, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import netspec
from netspec.cli.main import cli
from netspec.loading import check_source
from netspec.source import Source

HEAD = "netspec: 1\ninputs: {x: {shape: [N, 4, 8, 8]}}\n"


def network_of(text: str) -> netspec.Network:
    checked = check_source(Source("spec.yaml", HEAD + text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def mistakes(text: str) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in check_source(Source("spec.yaml", HEAD + text)).diagnostics]


def wiring(network: netspec.Network) -> dict[str, tuple[str, ...]]:
    return {path: layer["inputs"] for path, layer in network.layers()}


def test_every_branch_reads_the_containers_input_and_merge_reads_their_ends() -> None:
    network = network_of(
        "net:\n  stem: {conv: 6, kernel: 1}\n  mix:\n    branches:\n      left: {conv: 2, kernel: 1}\n"
        "      right: [{conv: 3, kernel: 1}, relu]\n      same: identity\n    merge: concat\n  after: relu\n"
    )
    assert wiring(network) == {
        "stem": ("x",),
        "mix.left": ("stem",),
        "mix.right.0": ("stem",),
        "mix.right.1": ("mix.right.0",),
        "mix.same": ("stem",),
        "mix.merge": ("mix.left", "mix.right.1", "mix.same"),
        "after": ("mix.merge",),
    }
    assert network.layer("mix.merge")["output"].shape[1] == 2 + 3 + 6


def test_a_branch_left_out_by_when_is_the_input_and_a_residual_block_is_two_branches() -> None:
    network = network_of(
        "blocks:\n  unit:\n    args: {width: int}\n    branches:\n"
        "      main: {conv: width, kernel: 3, padding: 1}\n"
        "      shortcut: {when: in.channels != width, conv: width, kernel: 1}\n    merge: add\n"
        "net: {a: {unit: 4}, b: {unit: 8}}\n"
    )
    assert wiring(network)["a.merge"] == ("a.main", "x")
    assert wiring(network)["b.merge"] == ("b.main", "b.shortcut")


def test_references_reach_into_branches() -> None:
    network = network_of(
        "net:\n  mix:\n    branches: {left: {conv: 2, kernel: 1}, right: {conv: 2, kernel: 1}}\n    merge: add\n"
        "  only: {relu: , from: mix.left}\noutputs: [only, mix]\n"
    )
    assert wiring(network)["only"] == ("mix.left",)
    assert network.outputs == {"only": network.outputs["only"], "mix": "mix.merge"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("net: {m: {branches: {a: relu, b: tanh}}}\n", "missing-argument"),
        ("net: {m: {branches: {a: relu, b: tanh}, merge: relu}}\n", "wrong-type"),
        ("net: {m: {branches: {a: relu, b: tanh}, merge: {add: [a, b]}}}\n", "wrong-type"),
        ("net: {m: {branches: {a: relu, merge: tanh}, merge: add}}\n", "reserved-name"),
        ("net: {m: {branches: [relu, tanh], merge: add}}\n", "wrong-type"),
        ("net: {m: {branches: {a: {maxpool: 2}, b: tanh}, merge: concat}}\n", "shape-mismatch"),
        ("net: {m: {branches: {a: relu, b: {relu: , from: a}}, merge: add, axis: 1}}\n", "unknown-argument"),
    ],
)
def test_branches_that_can_not_be_merged_are_told(text: str, code: str) -> None:
    assert [found for found, _ in mistakes(text)] == [code]


def test_dense_connection_gives_every_turn_all_before_it() -> None:
    network = network_of(
        "net:\n  block: {repeat: 3, connect: dense, as: 'layer{i + 1}', conv: 2, kernel: 3, padding: 1}\n  end: relu\n"
    )
    assert wiring(network) == {
        "block.layer1": ("x",),
        "block.concat1": ("x", "block.layer1"),
        "block.layer2": ("block.concat1",),
        "block.concat2": ("block.concat1", "block.layer2"),
        "block.layer3": ("block.concat2",),
        "block.concat3": ("block.concat2", "block.layer3"),
        "end": ("block.concat3",),
    }
    assert [network.layer(f"block.concat{i}")["output"].shape[1] for i in (1, 2, 3)] == [6, 8, 10]


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ("{repeat: 2, connect: sparse, relu: }", "wrong-type"),
        ("{connect: dense, relu: }", "missing-argument"),
        ("{repeat: 2, as: same, relu: }", "duplicate-name"),
        ("{repeat: 2, as: 'a b{i}', relu: }", "bad-name"),
        ("{repeat: 2, as: 'a{j}', relu: }", "unknown-name"),
        ("{repeat: 2, as: 'a{i / 2 + 0.25}', relu: }", "wrong-type"),
        ("{repeat: 2, connect: dense, maxpool: 2}", "shape-mismatch"),
    ],
)
def test_turns_that_make_no_sense_are_told(layer: str, code: str) -> None:
    assert mistakes(f"net: {{a: {layer}}}\n")[0][0] == code


# -- extends and use

BASE = """netspec: 1
args: {width: 8}
inputs: {x: {shape: [N, 4]}}
blocks: {pair: {args: {n: int}, net: [{linear: n}, relu]}}
net: {a: {pair: width}, b: {linear: 3}}
expect: {parameters: 67}
train: {data: digits, epochs: 3}
"""


def test_an_extending_spec_is_the_base_with_its_own_in_place(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    child = tmp_path / "child.yaml"
    child.write_text("netspec: 1\nextends: base.yaml\nargs: {width: 16}\nnet: {b: {linear: 5}}\ntrain: {epochs: 9}\n")
    network = netspec.load(child)
    assert network.name == "child"
    assert [path for path, _ in network.layers()] == ["a.0", "a.1", "b"]
    assert network.parameters() == 4 * 16 + 16 + 16 * 5 + 5
    assert network.sections["train"].numbers.epochs == 9
    alone = check_source(Source("alone.yaml", network.text)).network
    assert alone is not None
    assert (alone.parameters(), wiring(alone)) == (network.parameters(), wiring(network))


def test_a_chain_of_extensions_and_a_library_of_blocks(tmp_path: Path) -> None:
    (tmp_path / "library.yaml").write_text(
        "netspec: 1\nblocks: {pair: {args: {n: int}, net: [{linear: n}, relu]}, other: {net: [relu]}}\n"
    )
    (tmp_path / "base.yaml").write_text(
        "netspec: 1\nuse: library.yaml\nargs: {n: 4}\ninputs: {x: {shape: [N, 4]}}\nnet: {a: {pair: n}}\n"
    )
    (tmp_path / "middle.yaml").write_text("netspec: 1\nextends: base.yaml\nargs: {n: 5}\n")
    top = tmp_path / "top.yaml"
    top.write_text("netspec: 1\nextends: middle.yaml\nexpect: {parameters: 25}\n")
    checked = netspec.check(top)
    assert checked.valid
    assert checked.diagnostics == ()  # no warning of `other`, which is the library's
    assert not netspec.check(top, ["n=6"]).network.as_written
    written = check_source(Source("alone.yaml", netspec.load(top).text))
    assert written.network is not None  # the library's blocks are written out too
    assert written.network.containers["a"].kind == "pair"
    assert written.diagnostics == ()  # those that are used


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "unet", "resnet101"])
def test_a_spec_of_the_zoo_written_out_brings_no_warning(name: str) -> None:
    network = netspec.load(name)
    written = check_source(Source("alone.yaml", network.text))
    assert written.diagnostics == ()
    assert written.network is not None
    assert written.network.parameters() == network.parameters()


def test_a_block_that_an_argument_may_name_is_no_block_without_use() -> None:
    text = """
netspec: 1
args: {unit: {type: layer, default: wide}}
inputs: {x: {shape: [N, 4]}}
blocks: {wide: {net: [{linear: 8}]}, slim: {net: [{linear: 2}]}}
net: {a: unit}
"""
    assert check_source(Source("net.yaml", text)).diagnostics == ()


def test_in_a_library_an_argument_that_holds_a_layer_is_a_kind_in_its_own_block_only(tmp_path: Path) -> None:
    library = tmp_path / "library.yaml"
    text = (
        "netspec: 1\nblocks:\n"
        "  unit: {args: {width: int, norm: {type: layer, default: identity}}, net: [{linear: width}, norm]}\n"
        "  outer: {args: {block: layer, norming: layer}, net: [{block: 4, norm: norming}]}\n"
    )
    library.write_text(text)
    assert netspec.check(library).diagnostics == ()
    library.write_text(text.replace("[{block: 4, norm: norming}]", "[{block: 4, norm: norming}, norm]"))
    (found,) = netspec.check(library).diagnostics
    assert (found.code, "`norm`" in found.message) == ("unknown-op", True)


@pytest.mark.parametrize(
    ("child", "code", "words"),
    [
        ("extends: base.yaml\nargs: {widht: 3}", "unknown-override", "did you mean `width`?"),
        ("extends: base.yaml\nnet: {c: relu}", "unknown-override", "no layer `c`"),
        ("extends: bse.yaml", "unknown-spec", "bse.yaml"),
        ("extends: [base.yaml]", "wrong-type", "a file or the name of a spec"),
        ("extends: child.yaml", "extension-cycle", "build on one another"),
        ("extends: base.yaml\nuse: base.yaml\nblocks: {pair: {net: [relu]}}", "duplicate-name", "`pair`"),
        ("extends: base.yaml\nargs: {width: int}", "missing-argument", "needs the argument `width`"),
        ("extends: base.yaml\nnet: {b: {linear: 0}}", "out-of-range", "must be at least 1"),
        ("extends: base.yaml\nnet: [{linear: 3}]", "wrong-type", "name the layers that are changed"),
        ("extends: base.yaml\nargs: [8]", "wrong-type", "`args: {name: …}`"),
        ("extends: listed.yaml\nnet: {b: {linear: 5}}", "wrong-type", "name the layers in the base"),
    ],
)
def test_extensions_that_meet_nothing_are_told(child: str, code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "listed.yaml").write_text(LISTED)
    (tmp_path / "child.yaml").write_text(f"netspec: 1\n{child}\n")
    checked = netspec.check(tmp_path / "child.yaml")
    (found,) = checked.diagnostics
    assert found.code == code
    assert words in f"{found.message} {found.help}"
    assert found.span.source.name.endswith("child.yaml")


LISTED = "netspec: 1\ninputs: {x: {shape: [N, 4]}}\nnet: [{linear: 8}, {linear: 3}]\n"


def test_a_list_takes_the_place_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "listed.yaml").write_text(LISTED)
    (tmp_path / "child.yaml").write_text("netspec: 1\nextends: listed.yaml\nnet: [{linear: 2}]\n")
    assert netspec.load(tmp_path / "child.yaml").parameters() == 4 * 2 + 2


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ("{npz: data.npz, test: 0.5}", "../bases/data.npz"),
        ("{folder, path: images}", "../bases/images"),
        ("{folder: ../pictures}", "../pictures"),
        ("{npz: /data.npz}", "/data.npz"),
        ("{npz: ~/data.npz}", "~/data.npz"),
    ],
)
def test_paths_belong_to_the_file_that_says_them(data: str, seen: str, tmp_path: Path) -> None:
    for folder in ("bases", "mine"):
        (tmp_path / folder).mkdir()
    base = BASE.replace("data: digits", f"data: {data}, loss: mse")
    (tmp_path / "bases" / "base.yaml").write_text(base)
    (tmp_path / "bases" / "middle.yaml").write_text("netspec: 1\nextends: base.yaml\n")
    child = tmp_path / "mine" / "child.yaml"
    child.write_text("netspec: 1\nextends: ../bases/middle.yaml\ntrain: {epochs: 9}\n")
    network = netspec.load(child)
    assert network.sections["train"].data.path == seen
    alone = check_source(Source(str(tmp_path / "mine" / "alone.yaml"), network.text)).network
    assert alone is not None
    assert alone.sections["train"].data.path == seen  # also where the two files have become one
    child.write_text("netspec: 1\nextends: ../bases/middle.yaml\ntrain: {data: {npz: own.npz}}\n")
    assert netspec.load(child).sections["train"].data.path == "own.npz"


def test_every_spec_of_the_zoo_is_valid_without_a_warning() -> None:
    from netspec.zoo import zoo

    specs = dict(zoo())
    assert len(specs) >= 23
    for name, path in specs.items():
        checked = netspec.check(name)
        assert checked.diagnostics == (), name
        assert checked.valid, name
        assert checked.library == (path.parent.name == "blocks")


def test_a_library_is_valid_but_no_network(tmp_path: Path) -> None:
    with pytest.raises(netspec.SpecError, match="no network"):
        netspec.load("convolution")
    (tmp_path / "bad.yaml").write_text("netspec: 1\nblocks: {a: {nett: [relu]}}\n")
    assert not netspec.check(tmp_path / "bad.yaml").valid


def test_the_list_of_the_zoo_has_every_network_once() -> None:
    runner = CliRunner()
    specs = json.loads(runner.invoke(cli, ["list", "--format", "json"]).output)["specs"]
    assert len({spec["name"] for spec in specs}) == len(specs)
    by_name = {spec["name"]: spec for spec in specs}
    assert "convolution" not in by_name  # a library
    assert by_name["resnet50"]["parameters"] == 25_557_032
    assert by_name["resnet50"]["inputs"] == {"image": ["N", 3, 224, 224]}
    table = runner.invoke(cli, ["list"]).output
    assert all(name in table for name in by_name)


def test_one_block_used_with_other_layers_and_numbers_is_worked_out_each_time() -> None:
    network = network_of(
        "blocks:\n  unit:\n    args: {width: int, act: layer, kind: {type: layer, default: conv}, wide: false}\n"
        "    net: {conv: {kind: width, kernel: 1, bias: wide}, act: act, tail: {conv: in.channels, kernel: 1}}\n"
        "net:\n  a: {unit: 4, act: relu}\n  b: {unit: 6, act: {elu: 0.5}}\n"
        "  c: {unit: 6, act: {elu: 0.25}, wide: true}\n"
        "  d: {unit: 6, act: tanh, kind: conv_transpose}\n  e: {unit: 1, act: relu, wide: true}\n"
    )
    found = {path: layer["op"] for path, layer in network.layers()}
    assert [found[f"{name}.conv"].channels for name in "abcde"] == [4, 6, 6, 6, 1]
    assert [found[f"{name}.conv"].bias for name in "abcde"] == [False, False, True, False, True]
    assert [found[f"{name}.conv"].kind for name in "abcde"] == ["conv", "conv", "conv", "conv_transpose", "conv"]
    assert [found[f"{name}.act"].kind for name in "abcde"] == ["relu", "elu", "elu", "tanh", "relu"]
    assert (found["b.act"].alpha, found["c.act"].alpha) == (0.5, 0.25)
    channels = [
        network.layer(node)["output"].shape[1] for node in ("x", "a.tail", "b.tail", "c.tail", "d.tail", "e.tail")
    ]
    assert channels[1:] == channels[:-1]  # `in` is what each use reads
