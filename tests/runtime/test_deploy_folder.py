"""What ``netspec deploy`` writes is written whole or not at all, and nothing of another's is lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from runtime.cli.deploy import command
from runtime.engine_options import EngineOptions
from runtime.session import Session
from tests.runtime.conftest import CLASSIFIER_METADATA, SaveModel


def deploy(folder: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["triton", *map(str, arguments), "-o", str(folder)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_report_tells_what_was_written(classifier: Path, tmp_path: Path) -> None:
    done = deploy(tmp_path / "out", classifier, "--format", "json")
    report: dict[str, Any] = json.loads(done.output)
    assert report["target"] == "triton"
    assert report["models"] == [
        {"name": "model", "source": str(classifier), "max_batch": 8, "warmup": True, "labels": 3}
    ]
    written = {name for name in content(tmp_path / "out") if not name.startswith(".")}
    assert set(report["files"]) == written == {"model/1/model.onnx", "model/config.pbtxt", "model/labels.txt"}


@pytest.mark.parametrize("name", ["weights.bin", "deep/er/" + "w" * 150])
def test_side_files_of_weights_go_along(name: str, classifier: Path, tmp_path: Path) -> None:
    model = onnx.load(classifier)
    convert_model_to_external_data(model, location=name, size_threshold=0)
    source = tmp_path / "source" / "model.onnx"
    (source.parent / name).parent.mkdir(parents=True)
    onnx.save(model, source)
    (source.parent / "other.bin").write_text("not the model's")
    assert deploy(tmp_path / "out", source, "--name", "tiny").exit_code == 0
    version = tmp_path / "out" / "tiny" / "1"
    assert content(version).keys() == {"model.onnx", name}
    images = {"image": np.ones((2, 1, 4, 4), np.float32)}
    options = EngineOptions("cpu")
    moved, original = Session(version / "model.onnx", options), Session(classifier, options)
    np.testing.assert_array_equal(moved.run(images)["fc"], original.run(images)["fc"])


def test_what_it_wrote_itself_is_replaced(classifier: Path, tmp_path: Path) -> None:
    assert deploy(tmp_path / "out", classifier).exit_code == 0
    before = content(tmp_path / "out")
    assert deploy(tmp_path / "out", classifier, "--max-batch", "4").exit_code == 0
    after = content(tmp_path / "out")
    assert after.keys() == before.keys()
    assert b"max_batch_size: 4" in after["model/config.pbtxt"]
    assert deploy(tmp_path / "out", classifier).exit_code == 0
    assert content(tmp_path / "out") == before


def test_other_models_in_the_folder_stay(classifier: Path, adder: Path, tmp_path: Path) -> None:
    assert deploy(tmp_path / "out", classifier).exit_code == 0
    assert deploy(tmp_path / "out", adder).exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"model", "adder"}
    assert deploy(tmp_path / "out", classifier, adder).exit_code == 0


def test_what_another_wrote_or_changed_is_left_alone(classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "precious").write_text("mine")
    refused = deploy(folder, classifier)
    assert refused.exit_code == 1
    assert f"{folder / 'model'} is there already, and `netspec deploy` did not write it" in refused.output
    assert content(folder) == {"model/precious": b"mine"}
    assert deploy(folder, classifier, "--force").exit_code == 0
    assert "model/precious" not in content(folder)
    (folder / "model" / "config.pbtxt").write_text("max_batch_size: 2")
    before = content(folder)
    refused = deploy(folder, classifier)
    assert refused.exit_code == 1
    assert f"{folder / 'model'} was changed since `netspec deploy` wrote it" in refused.output
    assert content(folder) == before


def test_a_failure_leaves_everything_as_it_was(
    classifier: Path, adder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    assert deploy(folder, classifier).exit_code == 0
    before = content(folder)

    def full(source: Path, destination: Path) -> None:
        raise OSError(28, "No space left on device", str(source))  # copyfile names the source itself

    monkeypatch.setattr(shutil, "copyfile", full)
    failed = deploy(folder, classifier, adder, "--max-batch", "2")
    assert failed.exit_code == 1
    copied = folder / "model" / "1" / "model.onnx"
    assert f"cannot write {copied} from {classifier}: No space left on device" in failed.output
    assert content(folder) == before
    failed = deploy(tmp_path / "new", classifier)
    assert failed.exit_code == 1
    assert not (tmp_path / "new").exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [path for path in folder.iterdir() if path.is_dir()] == [folder / "model"]


def test_a_scalar_is_refused_with_what_helps(tmp_path: Path) -> None:
    scalar = helper.make_tensor_value_info("number", TensorProto.FLOAT, [])
    result = helper.make_tensor_value_info("twice", TensorProto.FLOAT, [])
    graph = helper.make_graph([helper.make_node("Add", ["number", "number"], ["twice"])], "g", [scalar], [result])
    path = tmp_path / "twice.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    refused = deploy(tmp_path / "out", path)
    assert refused.exit_code == 1
    assert f"{path}: 'number' is a scalar" in refused.output
    assert "`netspec serve` takes the model as it is" in refused.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", ["cat\n", "\n", "black\u2028cat", "black\ncat"])
def test_labels_that_are_no_lines_are_refused(label: str, save_classifier: SaveModel, tmp_path: Path) -> None:
    metadata = CLASSIFIER_METADATA | {"netspec.labels": json.dumps(["", label, "dog"])}
    refused = deploy(tmp_path / "out", save_classifier(metadata=metadata))
    assert refused.exit_code == 1
    assert f"the label {label!r} ends its line" in refused.output


def test_a_file_in_the_place_of_the_folder_is_told(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    failed = deploy(tmp_path / "out", classifier)
    assert failed.exit_code == 1
    assert "cannot write" in failed.output
    assert (tmp_path / "out").read_text() == "a file"


def test_models_have_the_names_of_their_files_or_directories(classifier: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(classifier, tmp_path / "runs" / name / "model.onnx")
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    assert deploy(tmp_path / "out", first, second).exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"first", "second"}
    both = deploy(tmp_path / "out", first / "model.onnx", second / "model.onnx")
    assert both.exit_code == 1
    assert "would both be named 'model'" in both.output
    for name in ("../up", "a b", "", ".hidden", "x" * 64):
        refused = deploy(tmp_path / "other", classifier, "--name", name)
        assert refused.exit_code == 1
        assert f"'{name}' is no name for a model" in refused.output
    assert deploy(tmp_path / "other", first, second, "--name", "one").exit_code == 2
    assert not (tmp_path / "other").exists()
