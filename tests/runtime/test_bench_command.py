"""``netspec bench``: what it measures, what it calls best, and that what it recommends can be typed."""

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.bench.settings import Tried, ways
from runtime.cli.serve import command as serve_command
from runtime.engine_options import EngineOptions, cores
from runtime.errors import DeviceError
from tests.runtime.conftest import SaveModel

Netspec = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(netspec: Netspec) -> Callable[..., dict[str, Any]]:
    """Runs `netspec bench … --format json` and reads what it says."""

    def run(*arguments: object) -> dict[str, Any]:
        done = netspec("bench", *arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run


def parsed(command: str) -> dict[str, Any]:
    """The options of a `netspec serve` command, as click reads them."""
    words = shlex.split(command)
    assert words[:2] == ["netspec", "serve"]
    return serve_command.make_context("serve", words[2:]).params


def test_the_best_are_the_best_of_what_is_listed(bench: Callable[..., dict[str, Any]], classifier: Path) -> None:
    report = bench(classifier, "--seconds", 2, "--threads", 1, "--batch", 1, "--batch", 64, "--no-spinning")
    rows, best = report["settings"], report["best"]
    tried = {(row["threads"], row["instances"], row["batch"]) for row in rows}
    assert tried == {(1, instances, batch) for instances in {1, cores()} for batch in (1, 64)}
    assert report["left_out"] == 0
    assert report["inputs"] == {"image": [1, 1, 4, 4]}
    for row in rows:
        assert row["device"] == "cpu"
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["runs"] >= 5 * row["instances"]
        assert row["load_seconds"] > 0
        # what is done in a second can't be more than all instances do when each run takes its median, give or take
        assert row["rows_per_second"] < 3 * row["instances"] * row["batch"] / row["p50_ms"] * 1e3
    most, soonest = rows[best["throughput"]["setting"]], rows[best["latency"]["setting"]]
    assert most["rows_per_second"] == max(row["rows_per_second"] for row in rows)
    assert soonest["p50_ms"] == min(row["p50_ms"] for row in rows if row["batch"] == 1)
    assert most["batch"] == 64  # a row of a tiny model costs nothing beside the call
    for kind, row in (("throughput", most), ("latency", soonest)):
        options = parsed(best[kind]["serve"])
        assert options["models"] == (classifier,)
        chosen = {
            "device": "cpu",
            "threads": 1,
            "instances": row["instances"],
            "max_batch": row["batch"],
            "spinning": False,
        }
        assert chosen.items() <= options.items()


def test_the_table(netspec: Netspec, save_classifier: SaveModel) -> None:
    done = netspec("bench", save_classifier(batch=2), "--seconds", 1, "--threads", 1, "--instances", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "image 2×1×4×4" in lines[0]
    assert lines[1].split()[:4] == ["device", "threads", "instances", "batch"]
    assert lines[2].split()[:4] == ["cpu", "1", "1", "2"]  # the batch that the model fixes
    assert lines[2].rstrip().endswith("← soonest most")
    (command, _) = [line.strip() for line in lines if "netspec serve" in line]
    assert "--max-batch" not in command
    parsed(command)


def test_what_there_is_no_time_for_is_left_out(bench: Callable[..., dict[str, Any]], classifier: Path) -> None:
    report = bench(classifier, "--seconds", 0.01)
    assert report["settings"]
    assert report["left_out"] > 0


def test_sizes_that_are_free(bench: Callable[..., dict[str, Any]], netspec: Netspec, save_echo: SaveModel) -> None:
    path = save_echo(shape=("n", "length"))
    done = netspec("bench", path)
    assert done.returncode == 1
    assert "the model leaves sizes free: 'x' float32 [n, length]" in done.stderr
    assert "--shape" in done.stderr
    report = bench(path, "--shape", "x=1x5", "--seconds", 0.5, "--threads", 1, "--instances", 1, "--batch", 3)
    assert report["inputs"] == {"x": [1, 5]}
    assert [row["batch"] for row in report["settings"]] == [3]


def test_a_shape_that_the_model_does_not_say(
    bench: Callable[..., dict[str, Any]], netspec: Netspec, save_echo: SaveModel
) -> None:
    path = save_echo(shape=None)
    assert "'x' float32 of any shape" in netspec("bench", path).stderr
    report = bench(path, "--shape", "x=2x5", "--seconds", 0.5, "--threads", 1, "--instances", 1)
    assert report["inputs"] == {"x": [2, 5]}
    assert [row["batch"] for row in report["settings"]] == [2]


def test_a_model_without_inputs(netspec: Netspec, save_model: SaveModel) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])]
    done = netspec("bench", save_model(nodes, [], [("y", TensorProto.FLOAT, [2])]))
    assert done.returncode == 1
    assert "takes no input, so there is nothing to measure with" in done.stderr


def test_instances_that_a_cuda_graph_cannot_have_are_refused_not_passed_over() -> None:
    options = EngineOptions("cuda", cuda_graph=True)
    assert [way.instances for way in ways(options, "cuda", Tried())] == [1]
    with pytest.raises(DeviceError, match="2 instances would share it"):
        ways(options, "cuda", Tried(instances=(1, 2)))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--shape", "image=4x4"], 1, "--shape gives 'image' as [4, 4], but it is float32 [batch, 1, 4, 4]"),
        (["--shape", "img=1x1x4x4"], 1, "--shape names the input 'img'; the model has 'image'"),
        (["--shape", "image"], 2, "'image' is no shape"),
        (["--shape", "image=1x0x4"], 2, "'image=1x0x4' is no shape"),
        (["--cuda-graph"], 2, "--cuda-graph has no meaning on the device auto"),
        (["--device", "cpu", "--engine-cache", "x"], 2, "--engine-cache has no meaning on the device cpu"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--batch", "0"], 2, "--batch"),
    ],
)
def test_what_cannot_be(netspec: Netspec, classifier: Path, arguments: Sequence[str], code: int, message: str) -> None:
    done = netspec("bench", classifier, *arguments)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_models_that_cannot_be_measured(netspec: Netspec, save_classifier: SaveModel, tmp_path: Path) -> None:
    done = netspec("bench", save_classifier(batch=2), "--batch", 1)
    assert done.returncode == 1
    assert "the batch of" in done.stderr
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    for path, message in ((tmp_path / "noise.onnx", "not an ONNX file"), (tmp_path / "none.onnx", "there is no model")):
        done = netspec("bench", path)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_model_that_fails_on_larger_batches_only(netspec: Netspec, save_model: SaveModel) -> None:
    nodes = [helper.make_node("Reshape", ["x", "one_row"], ["y"])]
    path = save_model(
        nodes, [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, [1, 2])], {"one_row": np.array([1, 2])}
    )
    done = netspec("bench", path, "--seconds", 1, "--threads", 1, "--instances", 1, "--batch", 1, "--batch", 2)
    assert done.returncode == 0, done.stderr
    assert "cannot compute on this input" in done.stdout
    assert "left out" not in done.stdout
    assert "← soonest most" in done.stdout
