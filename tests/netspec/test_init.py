"""`netspec init`: specs that are valid, laid out, and train at once; nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from netspec.cli.main import cli
from netspec.loading import check
from netspec.starter import TASKS


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def make_images(folder: Path, *classes: str) -> None:
    colours = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(6):
            pixels = colours.integers(0, 100, (24, 24, 3), dtype=np.uint8) + np.uint8(100 * (number % 2))
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def is_right(path: str) -> bool:
    """Valid without a warning, laid out as `fmt` does, and commented."""
    assert run("validate", "--strict", path).exit_code == 0, run("validate", path).output
    assert run("fmt", "--check", path).exit_code == 0
    return Path(path).read_text(encoding="utf-8").count("#") >= 5


@pytest.mark.parametrize("task", TASKS)
def test_every_starter_is_a_right_spec(task: str) -> None:
    result = run("init", "my-net.yaml", "--task", task)
    assert result.exit_code == 0
    assert result.output.startswith("wrote my-net.yaml\n")
    assert "netspec train my-net.yaml --out runs/my-net" in result.output
    assert is_right("my-net.yaml")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11", "googlenet", "lenet5", "mlp"])
def test_a_network_of_the_zoo_with_other_classes(name: str) -> None:
    make_images(Path("images"), "cats", "dogs", "eels")
    assert run("init", "pets.yaml", "--like", name).exit_code == 0
    assert is_right("pets.yaml")
    network, base = check("pets.yaml").network, check(name).network
    assert network is not None
    assert base is not None
    assert network.arguments["classes"] == 3
    assert [str(value) for value in network.arguments.values()][1:] == [str(v) for v in base.arguments.values()][1:]
    assert network.concrete(network.layer(next(iter(network.outputs.values())))["output"].shape)[-1] == 3
    assert sum(1 for _ in network.layers()) == sum(1 for _ in base.layers())


def test_digits_train_at_once() -> None:
    assert run("init").exit_code == 0
    result = run("train", "net.yaml", "--out", "runs/net", "--epochs", 3, "--device", "cpu")
    assert result.exit_code == 0, result.output
    accuracy = float(result.output.rpartition("held-out accuracy ")[2].partition("%")[0])
    assert accuracy > 80


def test_own_images_train_at_once() -> None:
    make_images(Path("pets"), "cats", "dogs")
    assert run("init", "specs/net.yaml", "--data", "pets").exit_code == 0
    assert "{folder: '../pets'}" in Path("specs/net.yaml").read_text(encoding="utf-8")
    result = run("train", "specs/net.yaml", "--out", "runs/a", "--epochs", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert run("init", "like.yaml", "--like", "lenet5", "--data", "pets").exit_code == 0
    result = run("train", "like.yaml", "--out", "runs/b", "--epochs", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output


def test_images_that_are_not_there_yet() -> None:
    result = run("init", "--task", "classification")
    assert "put a folder of images for each class into images" in result.output
    assert "put a folder" not in run("init", "digits.yaml").output


def test_parts_of_a_folder_are_not_classes() -> None:
    for part in ("train", "test"):
        make_images(Path("odd: name") / part, "a", "b", "c", "d")
    assert run("init", "--data", "odd: name").exit_code == 0
    network = check("net.yaml").network
    assert network is not None
    assert network.arguments["classes"] == 4
    assert network.sections["train"].data.path == "odd: name"


def test_a_spec_of_ones_own_as_the_base() -> None:
    assert run("init", "base/mine.yaml", "--task", "classification").exit_code == 0
    assert run("init", "net.yaml", "--like", "base/mine.yaml").exit_code == 0
    assert is_right("net.yaml")
    assert "\nextends: base/mine.yaml\n" in Path("net.yaml").read_text(encoding="utf-8")


def test_nothing_is_overwritten() -> None:
    Path("net.yaml").write_text("mine", encoding="utf-8")
    result = run("init")
    assert (result.exit_code, "`net.yaml` exists already" in result.output) == (1, True)
    assert Path("net.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--like", "lenet4"), 1, "did you mean `lenet5`?"),
        (("--like", "bottlenecks"), 1, "has no argument `classes`"),
        (("--like", "convolution"), 1, "no network to build on"),
        (("--data", "nowhere"), 1, "there is no folder `nowhere`"),
        (("--data", "one"), 1, "a classifier needs two"),
        (("--task", "digits", "--like", "mlp"), 2, "leave --like and --data out"),
        (("--task", "poetry"), 2, "'digits', 'classification'"),
    ],
)
def test_what_can_not_be(arguments: tuple[str, ...], code: int, said: str) -> None:
    make_images(Path("one"), "only")
    result = run("init", *arguments)
    assert result.exit_code == code
    assert said in result.output
    assert not Path("net.yaml").exists()
