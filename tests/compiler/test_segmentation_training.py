"""Training on masks: what is learnt, reported and served, and what is said of masks that can't be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from compiler.batches import Data
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.mask_pictures import GAP, LEAST, over, palette, side_by_side
from netspec.cli.main import cli
from netspec.loading import check_source
from netspec.source import Source

SPEC = """netspec: 1
name: colours
inputs: {image: {shape: [N, 3, H, W], sizes: {H: 12, W: 16}}}
net:
  conv: {conv: 8, kernel: 3, padding: 1}
  relu: relu
  scores: {conv: 3, kernel: 1}
train:
  data: {masks: set, names: [floor, red, green]}
  optimizer: {adam: 0.02}
  epochs: 8
  batch_size: 4
deploy:
  preprocess: {mean: 0.5, std: 0.25, fit: none}
  net:
    mask: {argmax: 1}
  outputs: {mask: mask}
"""
COLOURS = np.array([[40, 40, 90], [200, 60, 50], [60, 190, 70]], dtype=np.float32)


def scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of coloured rectangles with the class of every pixel; a strip of it is of no class."""
    mask = np.zeros((height, width), dtype=np.uint8)
    for label in (1, 2):
        top, left = rng.integers(height - 4), rng.integers(width - 5)
        mask[top : top + 4, left : left + 5] = label
    image = COLOURS[mask] + rng.normal(0, 12, (height, width, 3))
    mask[:, 0] = 255
    return image.clip(0, 255).astype(np.uint8), mask


def write(folder: Path, count: int = 24, size: tuple[int, int] = (12, 16), palette_images: bool = False) -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask = scene(rng, size[0] + number % 3, size[1])
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
        stored = Image.fromarray(mask, mode="L")
        if palette_images:
            stored = Image.fromarray(mask, mode="P")
            stored.putpalette(palette().tobytes())
        stored.save(folder / "masks" / f"{number:02}.png")


def data_of(folder: Path, text: str = SPEC) -> Data:
    checked = check_source(Source(str(folder / "spec.yaml"), text))
    assert checked.network is not None, checked.diagnostics
    return load_data(checked.network, checked.network.sections["train"].data, folder)


@pytest.mark.parametrize("palette_images", [False, True], ids=["grey", "palette"])
def test_a_network_learns_masks_is_judged_by_iou_and_serves_masks(palette_images: bool, tmp_path: Path) -> None:
    write(tmp_path / "set", palette_images=palette_images)
    (tmp_path / "spec.yaml").write_text(SPEC)
    out = tmp_path / "run"
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "spec.yaml"), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_miou"] > 0.95
    assert last["test_pixel_accuracy"] > 0.98
    report = (out / "report.md").read_text()
    assert "| red | " in report
    shown = f"pictures/epoch_{last['epoch'] + 1:03}.png"
    assert f"({shown})" in report
    picture = Image.open(out / shown)
    assert picture.width >= 3 * LEAST + 2 * GAP
    done = CliRunner().invoke(cli, ["export", str(out), "-o", str(tmp_path / "m.onnx")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    image, mask = scene(np.random.default_rng(9), 20, 31)
    (found,) = session.run(None, {"image": image[None]})
    counted = mask != 255
    assert (found[0] == mask)[counted].mean() > 0.97


def test_images_of_several_sizes_are_filled_up_and_what_is_filled_up_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "set")
    data = data_of(tmp_path)
    assert data.labels == ("floor", "red", "green")
    batch = data.train.batch(torch.arange(6))
    heights = [int(Image.open(tmp_path / "set" / "images" / name).height) for name in batch.names]
    assert isinstance(batch.targets, torch.Tensor)
    assert batch.inputs[0].shape[2:] == batch.targets.shape[1:] == (max(heights), 16)
    for target, name, height in zip(batch.targets, batch.names, heights, strict=True):
        assert (target[height:] == 255).all()
        stored = np.asarray(Image.open(tmp_path / "set" / "masks" / name))
        assert np.array_equal(target[:height].numpy(), stored)


def test_where_lists_name_the_images_others_need_no_mask(tmp_path: Path) -> None:
    """As in Pascal VOC, of whose images a part has masks."""
    write(tmp_path / "set")
    for number in (0, 5):
        (tmp_path / "set" / "masks" / f"{number:02}.png").unlink()
    (tmp_path / "set" / "train.txt").write_text("\n".join(f"{n:02}" for n in range(1, 5)))
    (tmp_path / "set" / "val.txt").write_text("\n".join(f"{n:02}" for n in range(6, 9)))
    data = data_of(tmp_path, SPEC.replace("masks: set,", "masks: set, train: train.txt, test: val.txt,"))
    assert (len(data.train), len(data.test)) == (4, 3)


def smaller_mask(folder: Path) -> None:
    Image.new("L", (10, 12)).save(folder / "masks" / "00.png")


def unknown_class(folder: Path) -> None:
    Image.new("L", (16, 12), 7).save(folder / "masks" / "00.png")


def missing_mask(folder: Path) -> None:
    (folder / "masks" / "00.png").unlink()


def missing_image(folder: Path) -> None:
    (folder / "images" / "00.png").unlink()


def corrupt_mask(folder: Path) -> None:
    (folder / "masks" / "00.png").write_bytes((folder / "masks" / "00.png").read_bytes()[:40])


def corrupt_image(folder: Path) -> None:
    (folder / "images" / "00.png").write_bytes(b"no image")


def coloured_mask(folder: Path) -> None:
    Image.new("RGB", (16, 12), (128, 0, 0)).save(folder / "masks" / "00.png")


MISTAKES = [
    (smaller_mask, ["masks/00.png", "10 × 12", "16 × 12"]),
    (unknown_class, ["masks/00.png", "the number 7", "3 classes"]),
    (missing_mask, ["images/00.png", "has no mask"]),
    (missing_image, ["masks/00.png", "mask of no image"]),
    (corrupt_mask, ["masks/00.png"]),
    (corrupt_image, ["images/00.png"]),
    (coloured_mask, ["masks/00.png"]),
]


@pytest.mark.parametrize(("spoil", "words"), MISTAKES, ids=[spoil.__name__ for spoil, _ in MISTAKES])
def test_masks_that_can_not_be_used_are_named_or_left_out(
    spoil: Callable[[Path], None], words: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "set", size=(12, 16))
    spoil(tmp_path / "set")
    with pytest.raises(CompilerError) as caught:
        data = data_of(tmp_path)
        for split in (data.train, data.test):
            split.batch(torch.arange(len(split)))
    for word in words:
        assert word in caught.value.message
    data = data_of(tmp_path, SPEC.replace("masks: set,", "masks: set, on_error: skip,"))
    names = [
        name for split in (data.train, data.test) for name in split.batch(torch.arange(len(split))).names if len(split)
    ]
    assert sorted(names) == [f"{number:02}.png" for number in range(1, 24)]


def test_data_with_other_classes_than_the_network_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "set")
    with pytest.raises(CompilerError, match="the data has 2 classes"):
        data_of(tmp_path, SPEC.replace("names: [floor, red, green]", "names: [floor, red]"))


def test_the_colours_of_masks_are_those_of_pascal_voc() -> None:
    """The first of the development kit's colour map, and its last, the border that is ignored."""
    colours = palette()
    assert colours[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert colours[8].tolist() == [64, 0, 0]
    assert colours[255].tolist() == [224, 224, 192]


def test_a_mask_lies_over_the_image_and_leaves_the_background() -> None:
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    shown = over(image, np.array([[0, 1], [0, 0]], dtype=np.uint8))
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[0, 1].tolist() == [118, 35, 35]  # 0.35·100 + 0.65·(128, 0, 0)
    sheet = side_by_side([(image, np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))])
    assert sheet.size == (3 * LEAST + 2 * GAP, LEAST)
