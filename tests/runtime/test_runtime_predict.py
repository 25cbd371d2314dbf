"""``netspec predict``: images and arrays in, classes or outputs out, and clear errors with the right exit code."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper
from PIL import Image

from runtime.cli.predict import command
from tests.runtime.conftest import LABELS, SaveModel, classifier_weights


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def report(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    return result.stderr


def expected_probabilities(images: np.ndarray) -> np.ndarray:
    weight, bias = classifier_weights()
    powers = np.exp(images.reshape(-1, 16) @ weight + bias)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(5, 1, 4, 4)).astype(np.float32)


@pytest.fixture
def array(tmp_path: Path, images: np.ndarray) -> Path:
    np.save(tmp_path / "five.npy", images)
    return tmp_path / "five.npy"


def test_an_image_is_prepared_and_classified(classifier: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    told = report(classifier, tmp_path / "digit.png", "--device", "cpu", "--top", 2)
    probabilities = expected_probabilities((pixels / 255 - 0.5) / 0.5)[0]
    order = np.argsort(-probabilities)[:2]
    (prediction,) = told["predictions"]
    assert told["model"] == str(classifier)
    assert told["device"] == "cpu"
    assert prediction["file"] == str(tmp_path / "digit.png")
    assert prediction["label"] == LABELS[order[0]]
    assert prediction["index"] == order[0]
    assert [candidate["index"] for candidate in prediction["top"]] == order.tolist()
    np.testing.assert_allclose([c["probability"] for c in prediction["top"]], probabilities[order], rtol=1e-4)
    assert prediction["probability"] == prediction["top"][0]["probability"]


@pytest.mark.parametrize("options", [(), ("--batch-size", 1), ("--batch-size", 2), ("--batch-size", 100)])
def test_every_row_of_an_array_is_a_sample(
    classifier: Path, array: Path, images: np.ndarray, options: tuple[object, ...]
) -> None:
    predictions = report(classifier, array, array, *options)["predictions"]
    assert [prediction["row"] for prediction in predictions] == [0, 1, 2, 3, 4] * 2
    best = expected_probabilities(images).argmax(axis=1).tolist()
    assert [prediction["index"] for prediction in predictions] == best * 2


def test_an_array_without_the_batch_dimension_is_one_sample(
    classifier: Path, tmp_path: Path, images: np.ndarray
) -> None:
    np.save(tmp_path / "one.npy", images[3])
    (prediction,) = report(classifier, tmp_path / "one.npy")["predictions"]
    assert prediction["index"] == expected_probabilities(images)[3].argmax()


def test_numbers_are_converted_where_nothing_is_lost(adder: Path, classifier: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "double.npy", np.ones((2, 1, 4, 4), np.float64))
    np.save(tmp_path / "bytes.npy", np.ones((2, 1, 4, 4), np.uint8))
    np.save(tmp_path / "swapped.npy", np.ones((2, 1, 4, 4), ">f4"))
    told = [report(classifier, tmp_path / f"{name}.npy")["predictions"] for name in ("double", "bytes", "swapped")]
    assert [p["probability"] for p in told[0]] == [p["probability"] for p in told[1]]
    assert [p["probability"] for p in told[0]] == [p["probability"] for p in told[2]]


def test_npz_by_input_names(adder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", a=[[1.0, 2.0]], b=[[10.0, 20.0]], unused=np.array([None], dtype=object))
    (prediction,) = report(adder, tmp_path / "both.npz")["predictions"]
    assert prediction["outputs"] == {
        "sum": {"dtype": "float32", "shape": [2], "data": [11.0, 22.0]},
        "double": {"dtype": "float32", "shape": [2], "data": [2.0, 4.0]},
    }


def test_npz_of_one_array_needs_no_name(classifier: Path, tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "one.npz", images)
    np.savez_compressed(tmp_path / "packed.npz", pixels=images)
    assert len(report(classifier, tmp_path / "one.npz", tmp_path / "packed.npz")["predictions"]) == 10


def test_a_model_of_a_fixed_batch_gets_whole_batches(
    save_classifier: SaveModel, array: Path, images: np.ndarray
) -> None:
    fixed = save_classifier(batch=4)
    predictions = report(fixed, array)["predictions"]
    assert [p["index"] for p in predictions] == expected_probabilities(images).argmax(axis=1).tolist()
    assert "exactly 4 rows at a time, not 3" in refused(fixed, array, "--batch-size", 3)


def test_samples_of_different_sizes(save_model: SaveModel, tmp_path: Path) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["y"])]
    shape = ["n", 1, "h", "w"]
    path = save_model(nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, ["n", 1, 1, 1])])
    files = []
    for number, side in enumerate([2, 2, 3, 2]):
        files.append(tmp_path / f"{number}.npy")
        np.save(files[-1], np.full((1, side, side), number, np.float32))
    told = report(path, *files)["predictions"]
    assert [prediction["outputs"]["y"]["data"] for prediction in told] == [[[[n]]] for n in range(4)]


def test_a_directory_holds_a_model(classifier: Path, array: Path) -> None:
    assert len(report(classifier.parent, array)["predictions"]) == 5
    (classifier.parent / "empty").mkdir()
    assert "holds no model.onnx" in refused(classifier.parent / "empty", array)


def test_a_directory_without_a_model_says_what_to_give(classifier: Path, array: Path) -> None:
    folder = classifier.parent / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    assert f"write its model first, with `netspec export {folder}`" in refused(folder, array)
    classifier.rename(folder / "digits.onnx")
    assert f"name the file itself: {folder / 'digits.onnx'}" in refused(folder, array)


def test_probabilities_that_need_no_softmax(save_model: SaveModel, tmp_path: Path) -> None:
    metadata = {"netspec.labels": '["no", "yes"]', "netspec.postprocess": '{"y": "none"}'}
    signature = (TensorProto.FLOAT, ["n", 2])
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", *signature)], [("y", *signature)], {}, metadata
    )
    np.save(tmp_path / "x.npy", np.array([[0.25, 0.75]], np.float32))
    (prediction,) = report(path, tmp_path / "x.npy")["predictions"]
    assert (prediction["label"], prediction["probability"]) == ("yes", 0.75)


def test_classes_without_a_label_are_told_by_index(save_model: SaveModel, tmp_path: Path) -> None:
    metadata = {"netspec.labels": '["no", "yes"]', "netspec.postprocess": '{"y": "softmax"}'}
    signature = (TensorProto.FLOAT, ["n", "classes"])
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", *signature)], [("y", *signature)], {}, metadata
    )
    np.save(tmp_path / "x.npy", np.array([[2.0, 1.0, 4.0, 3.0]], np.float32))
    (prediction,) = report(path, tmp_path / "x.npy", "--top", 4)["predictions"]
    assert [(c["label"], c["index"]) for c in prediction["top"]] == [("2", 2), ("3", 3), ("no", 0), ("yes", 1)]


def test_text_is_a_table_that_is_never_cut_off(classifier: Path, array: Path) -> None:
    result = run(classifier, array, "--top", 3, "--device", "cpu")
    assert result.exit_code == 0
    assert f"{classifier} on cpu (as asked)" in result.stdout
    assert f"{array}[0]" in result.stdout
    assert all(result.stdout.count(label) == 5 for label in LABELS)
    assert "%" in result.stdout
    assert "…" not in result.stdout


def test_text_of_other_models_tells_outputs(adder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", a=[[1.0, 2.0]], b=[[10.0, 20.0]])
    result = run(adder, tmp_path / "both.npz")
    assert "sum" in result.stdout
    assert "float32 [2]" in result.stdout
    assert "[11. 22.]" in result.stdout


def test_markup_in_names_is_only_text(save_classifier: SaveModel, tmp_path: Path, images: np.ndarray) -> None:
    path = save_classifier(
        metadata={"netspec.labels": '["[red]a", "[/]b", "c"]', "netspec.postprocess": '{"fc": "softmax"}'}
    )
    np.save(tmp_path / "[bold].npy", images)
    result = run(path, tmp_path / "[bold].npy", "--top", 3)
    assert all(text in result.stdout for text in ("[red]a", "[/]b", "[bold].npy"))


def test_raw_outputs_go_to_a_file(classifier: Path, array: Path, images: np.ndarray, tmp_path: Path) -> None:
    report(classifier, array, "--output", tmp_path / "raw.npz")
    weight, bias = classifier_weights()
    with np.load(tmp_path / "raw.npz", allow_pickle=False) as raw:
        np.testing.assert_allclose(raw["fc"], images.reshape(5, 16) @ weight + bias, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".raw*"))


def test_an_output_that_cannot_be_written(classifier: Path, array: Path, tmp_path: Path) -> None:
    assert "there is no directory" in refused(classifier, array, "--output", tmp_path / "no" / "raw.npz")
    assert "is a directory" in refused(classifier, array, "--output", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        assert "device or a pipe" in refused(classifier, array, "--output", tmp_path / name)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "pipe").is_fifo()


def test_an_ending_that_says_another_format(classifier: Path, array: Path, tmp_path: Path) -> None:
    result = run(classifier, array, "--output", tmp_path / "raw.txt")
    assert result.exit_code == 2
    assert f".txt says another format; name it {tmp_path / 'raw.npz'}" in result.stderr
    assert not [*tmp_path.glob("raw.*")]


def test_a_link_stays_one(classifier: Path, array: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(Path("folder") / "raw.npz")
    report(classifier, array, "--output", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    with np.load(tmp_path / "folder" / "raw.npz") as raw:
        assert raw["fc"].shape == (5, 3)


def test_a_full_disk_leaves_the_old_file(
    classifier: Path, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw.npz").write_bytes(b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert "No space left on device" in refused(classifier, array, "--output", tmp_path / "raw.npz")
    assert (tmp_path / "raw.npz").read_bytes() == b"old"
    assert not list(tmp_path.glob(".raw*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((1, 1, 4, 4), np.nan, np.float32), "holds NaN or infinity"),
        (np.full((1, 1, 4, 4), np.inf, np.float32), "holds NaN or infinity"),
        (np.full((1, 1, 4, 4), 1e300), "holds numbers too large for the input 'image'"),
        (np.zeros((0, 1, 4, 4), np.float32), "holds no rows"),
        (np.zeros((2, 1, 4, 5), np.float32), "is float32 [batch, 1, 4, 4], given float32 [2, 1, 4, 5]"),
        (np.zeros((4, 4), np.float32), "is float32 [batch, 1, 4, 4], given float32 [4, 4]"),
        (np.float32(3), "a single number cannot be split into rows"),
        (np.zeros((1, 1, 4, 4), np.complex64), "given complex64"),
        (np.full((1, 1, 4, 4), "a"), "given <U1"),
        (np.zeros((1, 1, 4, 4), [("a", "f4")]), "given"),
        (np.zeros((1, 1, 4, 4), "datetime64[s]"), "given datetime64"),
    ],
)
def test_arrays_that_do_not_fit(classifier: Path, tmp_path: Path, given: np.ndarray, message: str) -> None:
    np.save(tmp_path / "wrong.npy", given)
    error = refused(classifier, tmp_path / "wrong.npy")
    assert message in error
    assert "wrong.npy" in error


def test_python_objects_are_never_loaded(classifier: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    for name in ("objects.npy", "objects.npz"):
        assert "holds Python objects, which are never loaded" in refused(classifier, tmp_path / name)


def test_whole_numbers_that_do_not_fit(picker: Path, save_echo: SaveModel, tmp_path: Path) -> None:
    small = save_echo(TensorProto.INT8)
    np.save(tmp_path / "large.npy", np.array([[1, 300]]))
    assert "too large for the input 'x', which is int8" in refused(small, tmp_path / "large.npy")
    np.save(tmp_path / "half.npy", np.array([0.5]))
    assert "given float64" in refused(picker, tmp_path / "half.npy")


@pytest.mark.parametrize(
    "given", [np.array([[1.5, 2]], np.float32), np.array([[b"a", b"b"]]), np.array([[True, False]])]
)
def test_nothing_but_text_is_text(save_echo: SaveModel, tmp_path: Path, given: np.ndarray) -> None:
    echo = save_echo(TensorProto.STRING)
    np.save(tmp_path / "words.npy", np.array([["a\0b", "é"]]))
    (told,) = report(echo, tmp_path / "words.npy", "--device", "cpu")["predictions"]
    assert told["outputs"]["y"]["data"] == ["a\0b", "é"]
    np.save(tmp_path / "others.npy", given)
    assert "the input 'x' is string [n, 2], given" in refused(echo, tmp_path / "others.npy")


def damaged_header() -> bytes:
    return b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 4, 4" + b" " * 60 + b"\n"


@pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
@pytest.mark.parametrize("content", [b"", b"noise", b"\x93NUMPY", b"PK\x03\x04", damaged_header()])
def test_files_that_are_no_arrays(classifier: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} as a NumPy a" in refused(classifier, tmp_path / name)


def test_a_header_that_promises_terabytes(classifier: Path, tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 1, 4, 4), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.write(tmp_path / "huge.npy", "image.npy")
    for name in ("huge.npy", "huge.npz"):
        assert f"cannot read {tmp_path / name}" in refused(classifier, tmp_path / name)


def test_archives_that_do_not_fit(adder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", a=[[1.0, 2.0]])
    assert "has no array for the input 'b'; it holds 'a'" in refused(adder, tmp_path / "one.npz")
    np.savez(tmp_path / "uneven.npz", a=[[1.0, 2.0]], b=[[1.0, 2.0], [3.0, 4.0]])
    assert "different numbers of rows: 1 for 'a', 2 for 'b'" in refused(adder, tmp_path / "uneven.npz")
    np.save(tmp_path / "one.npy", [[1.0, 2.0]])
    assert "but the model has 2 inputs: 'a', 'b'" in refused(adder, tmp_path / "one.npy")


def test_an_image_for_a_model_that_does_not_say_how(save_classifier: SaveModel, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "digit.png")
    error = refused(save_classifier(metadata={}), tmp_path / "digit.png")
    assert "does not say how an image becomes its input 'image'" in error
    assert "`deploy.preprocess`" in error
    assert "give the prepared tensor as a .npy file" in error


def test_missing_files(classifier: Path, tmp_path: Path) -> None:
    for name in ("nothing.png", "nothing.npy", "nothing.npz"):
        assert "there is no file" in refused(classifier, tmp_path / name)
    assert "is a directory" in refused(classifier, tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
def test_nobody_waits_for_who_writes_to_a_pipe(classifier: Path, detector: Path, array: Path, tmp_path: Path) -> None:
    for name in ("pipe.png", "pipe.npy", "pipe.npz"):
        os.mkfifo(tmp_path / name)
        assert "is a named pipe, not a file" in refused(classifier, tmp_path / name)
    coco = ("--format", "coco", "--coco-images", tmp_path / "pipe.png")
    assert "is a named pipe, not a file" in refused(detector, array, *coco)


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="standard input is no path here")
def test_what_a_shell_pipes_in_is_read(classifier: Path) -> None:
    image = io.BytesIO()
    Image.new("L", (4, 4), 9).save(image, format="PNG")
    command = [sys.executable, "-m", "netspec", "predict", str(classifier), "/dev/stdin", "--device", "cpu"]
    done = subprocess.run(command, input=image.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr


def test_answers_that_are_no_numbers(save_model: SaveModel, tmp_path: Path, logarithm: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([0.0, -1.0, 1.0], np.float32))
    told = report(logarithm, tmp_path / "x.npy")["predictions"]
    assert [prediction["outputs"]["y"]["data"] for prediction in told] == [None, None, 0.0]
    metadata = {"netspec.postprocess": '{"y": "softmax"}'}
    signature = (TensorProto.FLOAT, ["n", 2])
    path = save_model([helper.make_node("Log", ["x"], ["y"])], [("x", *signature)], [("y", *signature)], {}, metadata)
    np.save(tmp_path / "rows.npy", np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32))
    assert "row 1: the model answers with NaN or infinity" in refused(path, tmp_path / "rows.npy")


def test_top_is_for_classifiers(adder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", a=[[1.0, 2.0]], b=[[10.0, 20.0]])
    assert "does not say that it is a classifier" in refused(adder, tmp_path / "both.npz", "--top", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("model.onnx",),
        ("m", "f", "--top", "0"),
        ("m", "f", "--device", "tpu"),
        ("m", "f", "--threads", "0"),
        ("m", "f", "--threads", str(2**40)),
    ],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_model_alone_is_answered_with_what_is_missing() -> None:
    assert "name FILES to predict after the model: images, .npy or .npz" in run("runs/demo").output


def test_help_ends_with_an_example() -> None:
    assert run("--help").stdout.endswith("Example: netspec predict runs/demo/model.onnx digit.png\n")


def test_a_broken_model_is_1(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"noise")
    assert "is not an ONNX file, or it is damaged" in refused(tmp_path / "model.onnx", "x.npy")
