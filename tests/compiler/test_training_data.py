"""What data are taken for training, and what is said of those that can't be: the mistake, and the exact mend."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from compiler.batches import Data
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.metrics import Metrics
from compiler.pictures import draw_curves
from netspec import load
from netspec.cli.main import cli

X = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
CLASSES = np.arange(16) % 4


def read(folder: Path, loss: str, features: int, **arrays: Any) -> Data:
    """The arrays as data for a network of three inputs and so many outputs."""
    np.savez(folder / "data.npz", **({"x": X} | arrays))
    return from_spec(folder, f"net: {{fc: {{linear: {features}}}}}", f"loss: {loss}, data: {{npz: data.npz}}")


def from_spec(folder: Path, net: str, train: str, inputs: str = "{x: {shape: [N, 3]}}") -> Data:
    (folder / "net.yaml").write_text(f"netspec: 1\ninputs: {inputs}\n{net}\ntrain: {{{train}}}\n")
    network = load(folder / "net.yaml")
    return load_data(network, network.sections["train"].data, folder)


def refused(folder: Path, loss: str, features: int, **arrays: Any) -> tuple[str, str]:
    with pytest.raises(CompilerError) as caught:
        read(folder, loss, features, **arrays)
    return caught.value.message, caught.value.help


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_whole_numbers_from_0_are_classes(kind: str, tmp_path: Path) -> None:
    data = read(tmp_path, "cross_entropy", 5, y=CLASSES.astype(kind), x_test=X[:3], y_test=CLASSES[:3])
    assert data.train.targets.tolist() == CLASSES.tolist()
    assert data.test.targets.tolist() == [0, 1, 2]
    assert data.labels == tuple("01234")  # one for each column, as the exported file needs them


@pytest.mark.parametrize(
    ("y", "words", "mend"),
    [
        (CLASSES.astype(np.float32), "`y` is N of float32", "y.astype('int64')"),
        (CLASSES[:, None], "`y` is N × 1 of int64", "y.reshape(-1)"),
        (CLASSES[:, None] * 1.0, "`y` is N × 1 of float64", "y.reshape(-1).astype('int64')"),
        (np.eye(4)[CLASSES], "`y` is one-hot, N × 4", "y.argmax(1)"),
        (np.eye(4, dtype=bool)[CLASSES], "`y` is one-hot, N × 4", "y.argmax(1)"),
        (CLASSES + 1, "4 classes, numbered 1 to 4; the network gives N × 4", "y - 1"),
        (CLASSES - 1, "4 classes, numbered -1 to 2; the network gives N × 4", "y + 1"),
        (10 * CLASSES, "4 classes, numbered 0 to 30", "np.searchsorted(np.unique(y), y)"),
        (CLASSES // 2 * 2 - 1, "2 classes, numbered -1 to 1", "np.searchsorted(np.unique(y), y)"),
    ],
)
def test_classes_written_otherwise_are_refused_with_the_expression_that_mends_them(
    y: np.ndarray, words: str, mend: str, tmp_path: Path
) -> None:
    message, help = refused(tmp_path, "cross_entropy", 4, y=y)
    assert words in message
    assert f"save `{mend}`" in help
    mended = eval(mend, {"np": np, "y": y})
    assert read(tmp_path, "cross_entropy", 4, y=mended).train.targets.max() < 4


def test_the_held_out_classes_are_mended_in_the_same_way(tmp_path: Path) -> None:
    message, help = refused(tmp_path, "cross_entropy", 4, y=CLASSES + 1, x_test=X[:2], y_test=CLASSES[:2] + 1)
    assert message.startswith("`y` and `y_test`: 4 classes, numbered 1 to 4")
    assert help == "number the classes from 0: save `y - 1` and `y_test - 1`"


def test_more_classes_than_columns_ask_for_another_last_layer(tmp_path: Path) -> None:
    assert refused(tmp_path, "cross_entropy", 3, y=CLASSES) == (
        "`y`: 4 classes, numbered 0 to 3; the network gives N × 3",
        "give the last layer 4 features",
    )
    _, help = refused(tmp_path, "cross_entropy", 3, y=CLASSES + 1)
    assert help == "number the classes from 0: save `y - 1`, and give the last layer 4 features"


@pytest.mark.parametrize(
    ("loss", "features", "y", "words", "mend"),
    [
        ("cross_entropy", 4, CLASSES + 0.5, "`y` holds fractions", "write `loss: mse`"),
        ("cross_entropy", 4, X, "`y` is N × 3; cross_entropy takes one class number", "write `loss: mse`"),
        ("mse", 1, X[:, 0], "`y` is N, the network gives N × 1", "save `y.reshape(-1, 1)`"),
        ("l1", 3, X[:, :, None], "`y` is N × 3 × 1, the network gives N × 3", "save `y.reshape(-1, 3)`"),
        ("mse", 4, CLASSES, "`y` is N, the network gives N × 4", "write `loss: cross_entropy`"),
        ("mse", 2, X, "`y` is N × 3, the network gives N × 2", "give the last layer 3 features"),
        ("mse", 1, np.array(1.0), "16 samples in `x` and 1 in `y`", ""),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_refused_with_the_mend(
    loss: str, features: int, y: np.ndarray, words: str, mend: str, tmp_path: Path
) -> None:
    message, help = refused(tmp_path, loss, features, y=y)
    assert words in message
    assert mend in help


def test_whole_numbers_are_values_where_the_loss_compares_values(tmp_path: Path) -> None:
    data = read(tmp_path, "mse", 1, y=np.arange(16)[:, None])
    assert str(data.train.targets.dtype) == "torch.float32"
    assert sorted([*data.train.targets.ravel().tolist(), *data.test.targets.ravel().tolist()]) == list(range(16))


@pytest.mark.parametrize("name", ["x_test", "y_test"])
def test_half_of_a_held_out_part_is_refused(name: str, tmp_path: Path) -> None:
    other = {"x_test": "y_test", "y_test": "x_test"}[name]
    given = X[:3] if name == "x_test" else CLASSES[:3]
    message, help = refused(tmp_path, "cross_entropy", 4, y=CLASSES, **{name: given})
    assert message.endswith(f"has no array `{other}`")
    assert help == f"it has x, y, {name}"


FOREIGN = re.compile(r"pickle|train_size|test_size|stratif|least populated|zip|zlib|enforce|identify image|n_splits")


@pytest.mark.parametrize(
    ("y", "train", "words"),
    [
        (np.array([0] * 15 + [1]), "", "has one sample of the class `1`"),
        (CLASSES, ", test: 0.1", "`test: 0.1` holds 2 of 16 samples"),
        (CLASSES, ", test: 0.9", "`test: 0.9` holds 15 of 16 samples"),
    ],
)
def test_a_split_that_can_not_be_made_is_told_in_our_words(
    y: np.ndarray, train: str, words: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", x=X, y=y)
    with pytest.raises(CompilerError) as caught:
        from_spec(tmp_path, "net: {fc: {linear: 4}}", f"data: {{npz: data.npz{train}}}")
    assert words in caught.value.message
    assert not FOREIGN.search(caught.value.message + caught.value.help)


def test_python_objects_are_told_by_name_and_unread_where_nobody_needs_them(tmp_path: Path) -> None:
    odd = np.array([None, {}], dtype=object)
    assert len(read(tmp_path, "cross_entropy", 4, y=CLASSES, notes=odd).train) == 12
    message, help = refused(tmp_path, "cross_entropy", 4, y=np.array([None] * 16))
    assert "`y` in" in message
    assert "holds Python objects, which are never loaded" in message
    assert not FOREIGN.search(message + help)


def test_a_damaged_or_missing_archive_is_told_in_our_words(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=X, y=CLASSES)
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    content[60:120] = b"\xff" * 60  # inside the compressed numbers
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    contents = [bytes(content), bytes(content[:80]), b"", b"text", (tmp_path / "pickled.npy").read_bytes()]
    for damaged in contents:
        (tmp_path / "data.npz").write_bytes(damaged)
        with pytest.raises(CompilerError) as caught:
            from_spec(tmp_path, "net: {fc: {linear: 4}}", "data: {npz: data.npz}")
        assert caught.value.message.endswith("can't be read as a NumPy .npz file: it is damaged, or something else")
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(CompilerError, match="has no array `y`"):
        from_spec(tmp_path, "net: {fc: {linear: 4}}", "data: {npz: data.npz}")
    (tmp_path / "data.npz").unlink()
    with pytest.raises(CompilerError, match="there is no file"):
        from_spec(tmp_path, "net: {fc: {linear: 4}}", "data: {npz: data.npz}")


def test_a_path_of_an_unknown_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompilerError, match=r"`~no-such-user/data\.npz` is in the folder of a user"):
        from_spec(tmp_path, "net: {fc: {linear: 4}}", "data: {npz: ~no-such-user/data.npz}")


def folder_data(folder: Path, features: int) -> Data:
    net = f"net: {{flatten: flatten, fc: {{linear: {features}}}}}"
    return from_spec(folder, net, "data: {folder: images}", "{image: {shape: [N, 1, 4, 4]}}")


def test_a_folder_has_as_many_classes_as_the_network(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (4, 4)).save(tmp_path / "images" / label / f"{number}.png")
    assert folder_data(tmp_path, 2).labels == ("cat", "dog")
    with pytest.raises(CompilerError, match=r"the data has 2 classes \(cat, dog\), the network gives N × 3"):
        folder_data(tmp_path, 3)
    (tmp_path / "images" / "dog" / "1.png").write_bytes(b"not an image")
    data = folder_data(tmp_path, 2)
    with pytest.raises(CompilerError) as caught:
        for split in (data.train, data.test):
            split.batch(torch.arange(len(split)))
    assert caught.value.message.endswith("dog/1.png` can't be read as an image: it is damaged, or something else")


WORDS = np.random.default_rng(1).integers(0, 12, (96, 6))
MENTIONED = (WORDS == 7).any(axis=1).astype(np.int64)
READER = "net: {look: {embedding: 12, features: 8}, whole: {mean: 1}, fc: {linear: 2}}"


def words(folder: Path, x: Any, dtype: str = "int64") -> Data:
    np.savez(folder / "data.npz", x=x, y=MENTIONED)
    return from_spec(folder, READER, "data: {npz: data.npz}", f"{{words: {{shape: [N, T], dtype: {dtype}}}}}")


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("kind", ["int64", "uint8", "float64"])
def test_whole_numbers_are_read_as_the_input_says(dtype: str, kind: str, tmp_path: Path) -> None:
    batch = words(tmp_path, WORDS.astype(kind), dtype).train.batch(torch.arange(4))
    (given,) = batch.inputs
    assert given.dtype == getattr(torch, dtype)
    assert given.shape == (4, 6)
    assert all((row.numpy() == WORDS).all(axis=1).any() for row in given)


@pytest.mark.parametrize(
    ("x", "told", "mend"),
    [
        (WORDS + 0.5, "holds values that are no int64, which `words` reads", "save whole numbers"),
        (WORDS + 1e30, "holds values that are no int64", "save whole numbers"),
        (WORDS + 1, "`x` in `{file}` goes from 1 to 12", "looks up 0 to 11"),
        (WORDS - 1, "`x` in `{file}` goes from -1 to 10", "looks up 0 to 11"),
    ],
)
def test_numbers_that_cant_be_looked_up_are_refused(x: Any, told: str, mend: str, tmp_path: Path) -> None:
    with pytest.raises(CompilerError) as caught:
        words(tmp_path, x)
    assert told.format(file=tmp_path / "data.npz") in caught.value.message
    assert mend in caught.value.help


def test_a_network_of_words_is_trained(tmp_path: Path, netspec: Callable[..., Any]) -> None:
    np.savez(tmp_path / "data.npz", x=WORDS, y=MENTIONED)
    (tmp_path / "net.yaml").write_text(
        f"netspec: 1\ninputs: {{words: {{shape: [N, T], dtype: int64}}}}\n{READER}\n"
        "train: {data: {npz: data.npz}, optimizer: {adam: 0.05}, epochs: 30, batch_size: 16}\n"
    )
    done = netspec("train", "net.yaml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"held-out .*accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy) > 90, "whether a word stands in a row is linear in the mean of vectors that tell it apart"


def test_a_loss_of_zero_is_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves([Metrics(0, {"loss": 0.0}, {"loss": 0.0}, 0.1, 1.0, 1.0)], {}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_train_refuses_in_the_words_in_which_validate_warns(tmp_path: Path) -> None:
    """With the place, and as an error."""
    path = tmp_path / "net.yaml"
    text = "netspec: 1\ninputs: {image: {shape: [N, 1, 8, 8]}}\nnet: [flatten, {linear: 9}]\n"
    path.write_text(text + "train: {data: digits, optimizer: {sgd: 0.1}, epochs: 1}\n")
    warned = CliRunner().invoke(cli, ["validate", str(path)])
    done = CliRunner().invoke(cli, ["train", str(path), "--out", str(tmp_path / "run")])
    assert (warned.exit_code, done.exit_code) == (0, 1)
    said = "[recipe-mismatch]: `digits` has 10 classes; the output `1` is N × 9\n"
    assert f"warning{said}" in warned.output
    assert f"error{said}" in done.output
    assert "give its last layer 10 features" in done.output
    assert not (tmp_path / "run").exists()
