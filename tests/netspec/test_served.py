"""`--served`: reports and pictures of the form that is served, in place of the network that is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from netspec.cli.main import cli

SPEC = """netspec: 1
inputs: {image: {shape: [N, 3, 32, 48]}}
net:
  conv: {conv: 4, kernel: 3, padding: 1}
  scores: {conv: 5, kernel: 1, from: conv}
  training_only: {conv: 5, kernel: 1, from: conv}
outputs: [scores, training_only]
deploy:
  preprocess: {fit: stretch}
  net: {mask: {argmax: 1, from: scores}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def said(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_summary_has_the_layers_of_deploy_and_not_those_of_training_alone(spec: Path) -> None:
    trained = {layer["name"]: layer for layer in json.loads(said("summary", spec, "--format", "json"))["layers"]}
    served = {
        layer["name"]: layer for layer in json.loads(said("summary", spec, "--served", "--format", "json"))["layers"]
    }
    assert trained.keys() == {"conv", "scores", "training_only"}
    assert served.keys() >= {"prepare_image", "conv", "scores", "deploy.mask"}
    assert "training_only" not in served
    assert served["conv"]["parameters"] == trained["conv"]["parameters"] == 3 * 3 * 3 * 4 + 4


def test_a_picture_of_the_served_form_begins_with_pixels(spec: Path) -> None:
    text = said("draw", spec, "--served", "--format", "dot")
    assert '"image" -> "prepare_image"' in text
    assert "argmax" in text
    assert "training_only" not in text
    assert "argmax" not in said("draw", spec, "--format", "dot")


def test_layers_of_deploy_are_explained(spec: Path) -> None:
    assert "N × 32 × 48" in said("explain", spec, "deploy.mask", "--served")
    assert CliRunner().invoke(cli, ["explain", str(spec), "deploy.mask"]).exit_code == 1


def test_differences_between_served_layers_are_told(spec: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("argmax: 1", "softmax: 1"), encoding="utf-8")
    assert "the same network" in said("diff", spec, other)
    assert "argmax → softmax" in said("diff", spec, other, "--served", "--all")


@pytest.mark.parametrize(
    ("asked", "meant"), [("deploy.mask", "deploy.mask"), ("mask", "deploy.mask"), ("prepare_image",) * 2]
)
def test_explaining_a_layer_that_only_the_served_form_has_names_the_option(spec: Path, asked: str, meant: str) -> None:
    done = CliRunner().invoke(cli, ["explain", str(spec), asked])
    assert done.exit_code == 1
    assert f"`{meant}` is part of the served form: `netspec explain … {meant} --served`" in done.output
