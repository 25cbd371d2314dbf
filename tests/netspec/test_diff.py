"""What changed between two specs: layers matched by name, by order, or found again elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from netspec import load
from netspec.cli.main import cli
from netspec.diff import compare

SMALL = """netspec: 1
inputs: {x: {shape: [N, 8]}}
net:
  a: {linear: 8}
  act: relu
  b: {linear: 4}
"""


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, arguments)])


def as_json(*arguments: object) -> dict[str, Any]:
    done = invoke(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def changes(data: dict[str, Any]) -> dict[str, str]:
    return {layer["name"]: layer["change"] for layer in data["layers"]}


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Compares the small spec with what it becomes when some of its text is replaced."""

    def made(*replacements: tuple[str, str]) -> dict[str, Any]:
        text = SMALL
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "before.yaml").write_text(SMALL)
        (tmp_path / "after.yaml").write_text(text)
        return as_json(tmp_path / "before.yaml", tmp_path / "after.yaml")

    return made


# -- small changes, each told as what it is


def test_the_same(pair: Any) -> None:
    data = pair()
    assert (data["differ"], data["layers"]) == (False, [])
    assert data["state_dict"] == {"same": 4, "other_shape": 0, "only_before": 0, "only_after": 0}


def test_an_argument(pair: Any) -> None:
    (layer,) = pair(("b: {linear: 4}", "b: {linear: 5}"))["layers"]
    assert layer == {
        "change": "changed",
        "name": "b",
        "output": [["N", 4], ["N", 5]],
        "parameters": [36, 45],
        "macs": [32, 40],
        "arguments": {"features": [4, 5]},
    }


def test_another_op(pair: Any) -> None:
    assert pair(("relu", "gelu"))["layers"] == [{"change": "changed", "name": "act", "op": ["relu", "gelu"]}]


def test_a_new_layer_in_between_is_all_that_changes(pair: Any) -> None:
    data = pair(("  act", "  norm: batchnorm\n  act"))
    (layer,) = data["layers"]
    assert (layer["change"], layer["name"]) == ("added", "norm")
    assert layer["op"] == [None, "batchnorm"]
    assert layer["output"] == [None, ["N", 8]]
    assert layer["parameters"] == [None, 16]
    assert data["state_dict"] == {"same": 4, "other_shape": 0, "only_before": 0, "only_after": 5}


def test_a_layer_taken_out(pair: Any) -> None:
    (layer,) = pair(("  act: relu\n", ""))["layers"]
    assert (layer["change"], layer["name"], layer["op"]) == ("removed", "act", ["relu", None])


def test_another_wiring(pair: Any) -> None:
    assert pair(("{linear: 4}", "{linear: 4, from: a}\n  c: {add: [act, a]}\noutputs: [b, c]"))["layers"] == [
        {"change": "changed", "name": "b", "inputs": [["act"], ["a"]]},
        {
            "change": "added", "name": "c", "op": [None, "add"], "output": [None, ["N", 8]], "parameters": [None, 0],
            "macs": [None, 0], "receptive_field": [None, None],
        },
    ]  # fmt: skip


def test_a_renamed_layer(pair: Any) -> None:
    data = pair(("  a:", "  stem:"))
    assert data["layers"] == [{"change": "moved", "name": "stem", "was": "a"}]
    assert data["state_dict"] == {"same": 2, "other_shape": 0, "only_before": 2, "only_after": 2}


def test_layers_moved_into_a_container(pair: Any) -> None:
    data = pair(("  a: {linear: 8}\n  act: relu\n", "  body: {net: {a: {linear: 8}, act: relu}}\n"))
    assert changes(data) == {"body.a": "moved", "body.act": "moved"}


def test_another_name_of_the_input(pair: Any) -> None:
    data = pair(("{x:", "{image:"))
    assert data["layers"] == []
    assert data["differ"]


# -- networks that people compare


def test_a_deeper_network() -> None:
    data = as_json("resnet50", "resnet101")
    assert data["parameters"] == {"before": 25_557_032, "after": 44_549_160}
    assert data["depth"] == {"before": 50, "after": 101}
    assert data["arguments"]["after"]["depths"] == [3, 4, 23, 3]
    added = [layer for layer in data["layers"] if layer["change"] == "added"]
    assert {".".join(layer["name"].split(".")[:2]) for layer in added} == {f"layer3.{i}" for i in range(6, 23)}
    rest = [layer for layer in data["layers"] if layer["change"] != "added"]
    assert all("receptive_field" in layer and "output" not in layer for layer in rest)
    read_on = {layer["name"]: layer["inputs"] for layer in rest if "inputs" in layer}
    last = [["layer3.5.relu3"], ["layer3.22.relu3"]]
    assert read_on == {"layer4.0.conv1": last, "layer4.0.downsample.0": last}
    assert data["state_dict"] == {"same": 320, "other_shape": 0, "only_before": 0, "only_after": 306}


def test_numbered_layers_are_matched_by_their_order() -> None:
    data = as_json("vgg16", "vgg16_bn")
    assert Counter(layer["change"] for layer in data["layers"]) == {"added": 13, "moved": 30}
    assert {layer["op"][1] for layer in data["layers"] if layer["change"] == "added"} == {"batchnorm"}
    back = as_json("vgg16_bn", "vgg16")
    assert Counter(layer["change"] for layer in back["layers"]) == {"removed": 13, "moved": 30}


@pytest.mark.parametrize(
    ("before", "after", "settings"),
    [
        ("resnet50", "resnet101", []),
        ("vgg16", "vgg16_bn", []),
        ("resnet18", "resnet18", ["width=32"]),
        ("densenet121", "densenet169", ["growth=16"]),
        ("lenet5", "mlp", []),
        ("alexnet", "googlenet", []),
        ("mlp", "resnet152", []),
    ],
)
def test_the_layers_account_for_the_totals(before: str, after: str, settings: list[str]) -> None:
    for pair in ((load(before), load(after, *settings)), (load(after, *settings), load(before))):
        data = compare(*pair).as_data()
        for what in ("parameters", "macs"):
            steps = [layer[what] for layer in data["layers"] if what in layer]
            difference = sum((new or 0) - (old or 0) for old, new in steps)
            assert difference == data[what]["after"] - data[what]["before"]
        one, other = (sum(1 for _ in network.layers()) for network in pair)
        counts = Counter(layer["change"] for layer in data["layers"])
        assert other - one == counts["added"] - counts["removed"]


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "googlenet", "mlp", "bottlenecks"])
def test_a_spec_is_the_same_as_itself(name: str) -> None:
    assert not as_json(name, name)["differ"]
    assert invoke(name).stdout == f"{name} and {name}: the same network\n"


def test_thousands_of_equal_layers(tmp_path: Path) -> None:
    text = (
        "netspec: 1\nargs: {n: 4000}\ninputs: {x: {shape: [N, 8]}}\nnet: {a: {repeat: n, net: [{linear: 8}, relu]}}\n"
    )
    (tmp_path / "long.yaml").write_text(text)
    data = as_json(tmp_path / "long.yaml", "--set", "n=4500")
    assert Counter(changes(data).values()) == {"added": 1000}


# -- the table


def test_the_table_is_as_long_as_it_needs_to_be() -> None:
    lines = invoke("resnet50", "resnet101").stdout.splitlines()
    assert lines[0].startswith("resnet50 → resnet101")
    marked = [line for line in lines if line[:1] in "+-~>" and line.strip()]
    assert len(marked) == 5
    assert "layer3.6 … 22" in marked[0]
    assert "17 × residual, 170 layers" in marked[0]
    assert "18,992,128" in marked[0]
    assert "layer4 " in marked[1]
    assert "3 × residual, 32 of 32 changed" in marked[1]
    assert "427×427 → 971×971" in marked[1]
    assert "parameters          25,557,032 → 44,549,160  (+74.3%)" in lines
    assert "arguments           depths (3, 4, 6, 3) → (3, 4, 23, 3)" in lines
    assert "state-dict          320 the same, 306 new" in lines
    every = invoke("resnet50", "resnet101", "--all").stdout.splitlines()
    assert sum(line[:1] == "+" for line in every) == 170
    assert sum(line[:1] == "~" for line in every) == 35


def test_other_settings() -> None:
    out = invoke("resnet50", "--set", "width=32").stdout
    assert "conv, channels 64 → 32" in out
    assert "2048×7×7 → 1024×7×7" in out
    assert "14,964,736 → 3,746,816" in out
    assert "54 the same, 266 of another shape" in out
    same = invoke("resnet50", "resnet50", "--set", "width=32", "--set-before", "width=32")
    assert same.stdout == "resnet50 and resnet50: the same network\n"


def test_added_and_moved_are_told_in_one_line() -> None:
    out = invoke("vgg16", "vgg16_bn").stdout
    assert "13 of 44 added (batchnorm), 30 of 44 moved" in out
    assert "14,714,688 → 14,723,136" in out


def test_exit_codes() -> None:
    assert invoke("lenet5", "mlp").exit_code == 0
    assert invoke("lenet5", "mlp", "--exit-code").exit_code == 1
    assert invoke("lenet5", "mlp", "--exit-code", "--format", "json").exit_code == 1
    assert invoke("lenet5", "lenet5", "--exit-code").exit_code == 0
    done = invoke("lenet5", "--set", "classes=0")
    assert done.exit_code == 1
    assert "error[out-of-range]" in done.stderr
    assert invoke().exit_code == 2
