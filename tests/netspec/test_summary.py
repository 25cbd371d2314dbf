"""`netspec summary`: parameters, multiply-accumulates and receptive fields, in four formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netspec.cli.main import cli

# LeNet-5 by hand: output, parameters, multiply-accumulates, receptive field.
LENET5 = {
    "conv1": ([6, 28, 28], 5 * 5 * 1 * 6 + 6, 5 * 5 * 1 * 6 * 28 * 28, 5),
    "tanh1": ([6, 28, 28], 0, 0, 5),
    "pool1": ([6, 14, 14], 0, 0, 6),
    "conv2": ([16, 10, 10], 5 * 5 * 6 * 16 + 16, 5 * 5 * 6 * 16 * 10 * 10, 14),
    "tanh2": ([16, 10, 10], 0, 0, 14),
    "pool2": ([16, 5, 5], 0, 0, 16),
    "flatten": ([400], 0, 0, 32),
    "fc1": ([120], 400 * 120 + 120, 400 * 120, 32),
    "tanh3": ([120], 0, 0, 32),
    "fc2": ([84], 120 * 84 + 84, 120 * 84, 32),
    "tanh4": ([84], 0, 0, 32),
    "fc3": ([10], 84 * 10 + 10, 84 * 10, 32),
}
PARAMETERS, MACS = 61_706, 416_520


def summary(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["summary", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def as_json(*arguments: str) -> dict[str, Any]:
    return json.loads(summary(*arguments, "--format", "json"))


def test_the_sums_by_hand() -> None:
    assert sum(parameters for _, parameters, _, _ in LENET5.values()) == PARAMETERS
    assert sum(macs for _, _, macs, _ in LENET5.values()) == MACS
    assert LENET5["conv1"][1] == 156


def test_json() -> None:
    found = as_json("lenet5")
    assert (found["name"], found["parameters"], found["macs"], found["depth"]) == ("lenet5", PARAMETERS, MACS, 5)
    assert found["inputs"] == {"image": ["N", 1, 28, 28]}
    assert found["outputs"] == {"fc3": ["N", 10]}
    assert [layer["name"] for layer in found["layers"]] == list(LENET5)
    for layer in found["layers"]:
        shape, parameters, macs, field = LENET5[layer["name"]]
        assert layer["output"] == ["N", *shape]
        assert (layer["parameters"], layer["macs"]) == (parameters, macs)
        assert layer["receptive_field"] == [field, field]
    before = ["image", *LENET5]
    assert [layer["inputs"] for layer in found["layers"]] == [[name] for name in before[:-1]]
    assert [layer["op"] for layer in found["layers"]][:3] == ["conv", "tanh", "avgpool"]
    assert found["state_dict"] == [
        ["conv1.weight", [6, 1, 5, 5]],
        ["conv1.bias", [6]],
        ["conv2.weight", [16, 6, 5, 5]],
        ["conv2.bias", [16]],
        ["fc1.weight", [120, 400]],
        ["fc1.bias", [120]],
        ["fc2.weight", [84, 120]],
        ["fc2.bias", [84]],
        ["fc3.weight", [10, 84]],
        ["fc3.bias", [10]],
    ]


def test_csv_has_plain_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(summary("lenet5", "--format", "csv"))))
    assert [row["name"] for row in rows] == list(LENET5)
    for row in rows:
        shape, parameters, macs, field = LENET5[row["name"]]
        assert row["output"] == "×".join(["N", *map(str, shape)])
        assert (int(row["parameters"]), int(row["macs"])) == (parameters, macs)
        assert row["receptive_field"] == f"{field}×{field}"
    assert rows[0]["inputs"] == "image"


def test_markdown_is_a_table() -> None:
    lines = summary("lenet5", "--format", "markdown").splitlines()
    assert lines[0] == "**lenet5: image N × 1 × 28 × 28 → fc3 N × 10**"
    assert lines[2] == "| layer | op | output | parameters | MACs | receptive field |"
    assert lines[4] == "| conv1 | conv | N × 6 × 28 × 28 | 156 | 117,600 | 5 × 5 |"
    assert lines[5] == "| tanh1 | tanh | N × 6 × 28 × 28 |  |  | 5 × 5 |"
    assert {line.count("|") for line in lines[2 : 4 + len(LENET5)]} == {7}
    assert "parameters 61,706 · MACs a sample 416,520" in lines[-1]
    assert "depth 5 weighted layers" in lines[-1]


def test_the_table_has_every_layer_and_is_not_cut_off() -> None:
    output = summary("resnet")
    lines = output.splitlines()
    layers = as_json("resnet")["layers"]
    for layer in layers:
        (line,) = [line for line in lines if line.startswith(layer["name"] + " ")]
        assert " × ".join(map(str, layer["output"])) in line
        assert f"{layer['parameters']:,}" in line or not layer["parameters"]
    assert "…" not in output
    assert "parameters          174,970" in output


def test_sums_agree_with_the_layers() -> None:
    for name in ("lenet5", "mlp", "resnet"):
        found = as_json(name)
        assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
        assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
        trained = 0
        for key, shape in found["state_dict"]:
            size = 1
            for length in shape:
                size *= length
            trained += 0 if key.rpartition(".")[2].startswith(("running_", "num_batches")) else size
        assert found["parameters"] == trained


def test_a_setting_changes_the_summary() -> None:
    found = as_json("lenet5", "--set", "classes=4")
    assert found["layers"][-1]["output"] == ["N", 4]
    assert found["parameters"] == PARAMETERS - 6 * 85


def test_a_free_size_is_written_as_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "free.yaml"
    path.write_text("netspec: 1\ninputs: {image: {shape: [N, 3, H, 8]}}\nnet: {a: {conv: 2, kernel: 3, stride: 2}}\n")
    found = as_json(str(path))
    assert found["layers"][0]["output"] == ["N", 2, "floor((H + 1)/2) - 1", 3]
    assert found["macs"] == found["layers"][0]["macs"] == "162*floor((H + 1)/2) - 162"
    assert "162*floor((H + 1)/2) - 162" in summary(str(path))


def test_a_vector_has_no_receptive_field(tmp_path: Path) -> None:
    path = tmp_path / "vector.yaml"
    path.write_text("netspec: 1\ninputs: {x: {shape: [N, 8]}}\nnet: {a: {linear: 2}}\n")
    assert as_json(str(path))["layers"][0]["receptive_field"] is None
    assert as_json(str(path))["name"] == "vector"


@pytest.mark.parametrize("form", ["table", "json", "markdown", "csv"])
def test_a_mistake_goes_to_the_error_stream(form: str) -> None:
    result = CliRunner().invoke(cli, ["summary", "lenet5", "--set", "classes=0", "--format", form])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "error[out-of-range]: `features` must be at least 1, got 0" in result.stderr
    assert "1 error" in result.stderr
