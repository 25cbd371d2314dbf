"""`netspec explain`: one layer worked out as one would by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from netspec import load
from netspec.cli.main import cli


def explain(*arguments: object) -> dict[str, str]:
    """The lines of the explanation, by what each works out."""
    result = CliRunner().invoke(cli, ["explain", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    lines = [line.strip().split("  ", 1) for line in result.output.splitlines()[1:]]
    return {what: rest.strip() for what, rest in lines}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "netspec: 1\n"
        "inputs: {image: {shape: [N, 4, H, 9], sizes: {H: 11}}}\n"
        "net:\n"
        "  dilated: {conv: 8, kernel: 3, dilation: 2, padding: 2, groups: 2, bias: false}\n"
        "  pool: {maxpool: 2, ceil: true}\n"
        "  bn: batchnorm\n"
        "  side: {conv: 3, kernel: 1, from: pool}\n"
        "  both: {concat: [bn, side]}\n"
        "  flat: flatten\n",
        encoding="utf-8",
    )
    return path


def test_a_convolution_as_the_course_does_it() -> None:
    lines = explain("lenet5", "conv1")
    assert lines == {
        "reads": "image  N × 1 × 28 × 28",
        "height, width": "⌊(28 + 2·2 − 5)/1⌋ + 1 = 28",
        "parameters": "5×5×1×6 + 6 = 156",
        "MACs": "5×5×1×6 × 28×28 = 117,600",
        "output": "N × 6 × 28 × 28",
        "weight": "6 × 1 × 5 × 5",
        "bias": "6",
        "receptive field": "1 + (5 − 1)·1 = 5",
    }


def test_the_lines_stand_literally_in_the_output() -> None:
    output = CliRunner().invoke(cli, ["explain", "lenet5", "conv1"]).output
    assert "⌊(28 + 2·2 − 5)/1⌋ + 1 = 28" in output
    assert "5×5×1×6 + 6 = 156" in output


def test_a_fully_connected_layer() -> None:
    lines = explain("lenet5", "fc1")
    assert lines["parameters"] == "400×120 + 120 = 48,120"
    assert lines["MACs"] == "400×120 = 48,000"


def test_pooling_and_flattening() -> None:
    assert explain("lenet5", "pool2")["height, width"] == "⌊(10 − 2)/2⌋ + 1 = 5"
    assert explain("lenet5", "pool2")["receptive field"] == "14 + (2 − 1)·2 = 16"
    assert explain("lenet5", "flatten")["features"] == "16×5×5 = 400"


def test_a_layer_in_a_block() -> None:
    output = CliRunner().invoke(cli, ["explain", "resnet", "layer2.0.conv1"]).output
    heading = output.splitlines()[0]
    assert heading.startswith("layer2.0.conv1: conv, ")
    assert "in a `basic` (" in heading
    assert "⌊(8 + 2·1 − 3)/2⌋ + 1 = 4" in output


def test_dilation_groups_and_free_sizes(spec: Path) -> None:
    lines = explain(spec, "dilated")
    assert lines["reads"] == "image  N × 4 × 11 × 9"
    assert lines["height"] == "⌊(11 + 2·2 − 2·(3 − 1) − 1)/1⌋ + 1 = 11"
    assert lines["width"] == "⌊(9 + 2·2 − 2·(3 − 1) − 1)/1⌋ + 1 = 9"
    assert lines["parameters"] == "3×3×(4/2)×8 = 144"
    assert lines["MACs"] == "3×3×(4/2)×8 × 11×9 = 14,256"
    assert lines["receptive field"] == "1 + (5 − 1)·1 = 5"


def test_rounding_up_and_batch_normalisation(spec: Path) -> None:
    assert explain(spec, "pool")["height"] == "⌈(11 − 2)/2⌉ + 1 = 6"
    assert explain(spec, "bn")["parameters"] == "2×8 = 16"
    assert explain(spec, "bn")["running_mean"] == "8  (kept, not trained)"


def test_concatenation(spec: Path) -> None:
    result = CliRunner().invoke(cli, ["explain", str(spec), "both"])
    assert "reads            bn  N × 8 × 6 × 5\n" in result.output
    assert "reads            side  N × 3 × 6 × 5\n" in result.output
    assert explain(spec, "both")["channels"] == "8 + 3 = 11"


def test_a_container_is_the_sum_of_its_layers() -> None:
    lines = explain("resnet", "layer1.0")
    assert lines["parameters"] == "2,304 + 32 + 2,304 + 32 = 4,672"
    assert lines["MACs"] == "147,456 + 147,456 = 294,912"


def test_an_input() -> None:
    assert explain("lenet5", "image") == {"input": "N × 1 × 28 × 28"}


def test_json() -> None:
    result = CliRunner().invoke(cli, ["explain", "lenet5", "conv1", "--format", "json"])
    found = json.loads(result.output)
    assert (found["spec"], found["layer"]) == ("lenet5", "conv1")
    assert {"what": "parameters", "formula": "5×5×1×6 + 6", "result": "156"} in found["lines"]
    assert {"what": "height, width", "formula": "⌊(28 + 2·2 − 5)/1⌋ + 1", "result": "28"} in found["lines"]


def test_a_setting_is_taken_into_account() -> None:
    assert explain("lenet5", "fc3", "--set", "classes=3")["parameters"] == "84×3 + 3 = 255"


@pytest.mark.parametrize("name", ["lenet5", "mlp", "resnet"])
def test_every_layer_can_be_explained(name: str) -> None:
    network = load(name)
    for layer in [*network.graph.nodes, *network.containers]:
        assert explain(name, layer), layer


def test_an_unknown_layer() -> None:
    result = CliRunner().invoke(cli, ["explain", "lenet5", "conv9"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "`lenet5` has no layer `conv9`" in result.stderr
    assert "did you mean `conv" in result.stderr


LEAVES_OUT = """netspec: 1
args: {depth: 2, act: false}
inputs: {x: {shape: [N, 8]}}
blocks:
  step:
    args: {n: int}
    net:
      fc: {linear: n}
      shortcut: {when: in.channels != n, from: in, net: {fc: {linear: n}, act: {when: n > 100, relu}}}
      add: {add: [fc, shortcut]}
net:
  first: {step: 16}
  rest: {repeat: 3, as: "turn{i + 1}", when: i < depth, step: 16}
  tail: [{linear: 4}, {when: act, relu}]
"""


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            "tail.1",
            "`tail.1` is left out, as `act` is false there: act = false\n  = help: its `when` stands at {}:14:30",
        ),
        ("rest.turn3", "`rest.turn3` is left out, as `i < depth` is false there: i = 2, depth = 2"),
        ("rest.turn3.fc", "`rest.turn3.fc` is part of `rest.turn3`, which is left out, as `i < depth`"),
        (
            "rest.turn1.shortcut.fc",
            "`rest.turn1.shortcut.fc` is part of `rest.turn1.shortcut`, which is left out, as `in.channels != n` is "
            "false there: in.channels = 16, n = 16\n  = help: its `when` stands at {}:9:24",
        ),
        ("first.shortcut.act", "`first.shortcut.act` is left out, as `n > 100` is false there: n = 16"),
        ("rest.turn4", "has no layer `rest.turn4`"),
        ("first.shortcut.fd", "has no layer `first.shortcut.fd`"),
        ("tail.9", "has no layer `tail.9`"),
        ("tail." + 5000 * "9", "has no layer `tail.9"),
        ("first.fc.weight", "has no layer `first.fc.weight`"),
    ],
)
def test_a_layer_that_is_left_out_says_why(layer: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(LEAVES_OUT)
    result = CliRunner().invoke(cli, ["explain", str(path), layer])
    assert (result.exit_code, result.stdout) == (1, "")
    assert words.format(path) in result.stderr


def test_a_layer_that_an_extending_spec_leaves_out_is_told_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(LEAVES_OUT)
    (tmp_path / "child.yaml").write_text("netspec: 1\nextends: base.yaml\nargs: {depth: 1}\n")
    result = CliRunner().invoke(cli, ["explain", str(tmp_path / "child.yaml"), "rest.turn2"])
    assert "`i < depth` is false there: i = 1, depth = 1" in result.stderr
    assert f"{tmp_path / 'base.yaml'}:13:46" in result.stderr
    result = CliRunner().invoke(cli, ["explain", str(tmp_path / "child.yaml"), "rest.turn2", "--set", "depth=2"])
    assert result.exit_code == 0


def test_an_argument_that_is_written_as_arithmetic_is_worked_out(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "netspec: 1\ninputs: {image: {shape: [N, 3, 8, 8]}}\n"
        "blocks:\n  head: {args: {anchors: int}, net: [{conv: anchors * (4 + 2), kernel: anchors - 8}]}\n"
        "net:\n  head: {head: 9}\n",
        encoding="utf-8",
    )
    lines = explain(path, "head.0")
    assert (lines["channels"], lines["kernel"]) == ("9 × (4 + 2) = 54", "9 − 8 = 1")
    assert "channels" not in explain("lenet5", "conv1")


def test_the_region_proposal_network_of_the_paper_has_54_channels() -> None:
    assert explain("faster_rcnn_vgg16", "rpn.predict")["channels"] == "9 × (4 + 2) = 54"
    assert explain("faster_rcnn_vgg16", "anchors")["anchors of a place"] == "3 sizes × 3 ratios = 9"
