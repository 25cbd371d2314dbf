"""Digit scenes: what they promise of their boxes, masks and digits, and that the writers' files are read the same."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pycocotools.coco import COCO

from compiler.datasets.digits import digit_images, digit_split
from compiler.datasets.loading import load_pictures
from compiler.datasets.sample import Sample
from compiler.datasets.scenes import digit_scenes
from compiler.datasets.writing import Form, write_dataset
from netspec.cli.main import cli
from netspec.data_choices import Coco, Masks, Pictures, Scenes, Voc, YoloText

SMALL = Scenes(count=12, test=3, size=(96, 128), shown=(0, 4), seed=3)


def all_of(choice: Scenes) -> list[Sample]:
    parts = digit_scenes(choice)
    return [part.read(index) for part in (parts.train, parts.test) for index in range(len(part))]


def test_boxes_are_tight_around_the_ink_of_their_digits() -> None:
    for sample in all_of(SMALL):
        assert sample.image.shape == (96, 128, 3)
        assert sample.mask is not None
        assert sample.instances is not None
        for index, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True)):
            rows, columns = np.nonzero(sample.instances == index + 1)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert set(sample.mask[rows, columns]) == {label + 1}
        assert np.array_equal(sample.mask == 0, sample.instances == 0)


def test_what_is_asked_for_is_what_there_is() -> None:
    choice = Scenes(count=40, test=1, shown=(2, 3), scale=(0.2, 0.3), overlap=0.0, seed=1)
    samples = [digit_scenes(choice).train.read(index) for index in range(40)]
    counts = [len(sample.boxes) for sample in samples]
    assert set(counts) == {2, 3}
    heights = np.concatenate([sample.boxes[:, 3] - sample.boxes[:, 1] for sample in samples])
    # The ink of a digit that is turned by up to 0.2 is at most w·sin 0.2 higher, and w is at most about h.
    assert heights.min() > 0.2 * 128 * 0.8
    assert heights.max() < 0.3 * 128 * 1.3
    for sample in samples:
        assert np.maximum.outer(sample.boxes[:, 0], sample.boxes[:, 0]).shape
        for i in range(len(sample.boxes)):
            for j in range(i):
                a, b = sample.boxes[i], sample.boxes[j]
                assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_digits_are_inked_where_the_mask_says_and_stand_out() -> None:
    for sample in all_of(SMALL.model_copy(update={"clutter": 0.0})):
        plain = sample.image.astype(float).mean(axis=2)
        for index in range(len(sample.boxes)):
            assert sample.instances is not None
            own = sample.instances == index + 1
            left, top, right, bottom = sample.boxes[index].astype(int)
            around = plain[top:bottom, left:right][sample.instances[top:bottom, left:right] == 0]
            assert not len(around) or abs(plain[own].mean() - around.mean()) > 25


def test_a_scene_follows_from_its_seed_and_its_number_alone() -> None:
    parts, again = digit_scenes(SMALL), digit_scenes(SMALL.model_copy(update={"count": 500}))
    last = again.train.read(11)  # before the others
    for index in (11, 0):
        one, other = parts.train.read(index), again.train.read(index)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(last.image, parts.train.read(11).image)
    assert not np.array_equal(parts.train.read(0).image, parts.test.read(0).image)
    seeded = digit_scenes(SMALL.model_copy(update={"seed": 4}))
    assert not np.array_equal(parts.train.read(0).image, seeded.train.read(0).image)


def test_held_out_scenes_show_held_out_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits of which one part is made blank are blank in that part's scenes, and in no others."""
    images, classes = digit_images()
    train, test = digit_split(0.25)
    assert not set(train) & set(test)
    marked = images.copy()
    marked[test] = 0
    marked[test, 3:5, 2:6] = 255  # a bar in the place of every held-out digit
    before = digit_scenes(SMALL)
    monkeypatch.setattr("compiler.datasets.scenes.digit_images", lambda: (marked, classes))
    after = digit_scenes(SMALL)
    assert all(np.array_equal(before.train.read(i).image, after.train.read(i).image) for i in range(12))
    assert all(not np.array_equal(before.test.read(i).image, after.test.read(i).image) for i in range(3))


# -- the files


def written(folder: Path, form: Form) -> list[Sample]:
    data = digit_scenes(SMALL).train
    write_dataset(data, form, folder)
    return [data.read(index) for index in range(len(data))]


def everything(choice: Pictures, base: Path) -> dict[str, Sample]:
    parts = load_pictures(choice, base)
    assert parts.faults.skipped == {}
    samples = [part.read(index) for part in (parts.train, parts.test) for index in range(len(part))]
    return {sample.name.removesuffix(".png"): sample for sample in samples}


@pytest.mark.parametrize(
    ("form", "choice"),
    [
        ("coco", Coco(path="annotations.json", images_in="images")),
        ("voc", Voc(path=".", labels=tuple("0123456789"))),
        ("yolo", YoloText(path=".")),
    ],
)
def test_scenes_are_read_from_files_as_they_were(form: Form, choice: Pictures, tmp_path: Path) -> None:
    made = written(tmp_path, form)
    assert sum(len(sample.boxes) for sample in made) > 12
    assert any(not len(sample.boxes) for sample in made)  # an image without boxes is there too
    read = everything(choice, tmp_path)
    assert len(read) == len(made)
    for sample in made:
        other = read[sample.name]
        assert np.array_equal(sample.image, other.image)
        assert np.array_equal(sample.labels, other.labels)
        assert np.abs(sample.boxes - other.boxes).max(initial=0) < 1e-5
        assert other.boxes.dtype == np.float32
        assert not other.ignore.any()


@pytest.mark.parametrize(
    ("form", "choice"),
    [
        ("masks", Masks(path=".", names="names.txt")),
        ("coco", Coco(path="annotations.json", images_in="images", outlines=True)),
    ],
)
def test_masks_are_read_from_files_as_they_were(form: Form, choice: Pictures, tmp_path: Path) -> None:
    made = written(tmp_path, form)
    read = everything(choice, tmp_path)
    for sample in made:
        mask = read[sample.name].mask
        assert mask is not None
        assert np.array_equal(sample.mask, mask)


def test_pycocotools_takes_the_file_and_sees_the_same_pixels(tmp_path: Path) -> None:
    made = {f"{sample.name}.png": sample for sample in written(tmp_path, "coco")}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "annotations.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list("0123456789")
    for image in coco.loadImgs(coco.getImgIds()):
        sample = made[image["file_name"]]
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(sample.boxes)
        for index, annotation in enumerate(annotations):
            assert sample.instances is not None
            assert np.array_equal(coco.annToMask(annotation) == 1, sample.instances == index + 1)
            assert annotation["area"] == (sample.instances == index + 1).sum()


def test_the_xml_of_voc_numbers_pixels_from_one(tmp_path: Path) -> None:
    made = written(tmp_path, "voc")
    sample = next(sample for sample in made if len(sample.boxes))
    text = (tmp_path / "Annotations" / f"{sample.name}.xml").read_text()
    left, top, right, bottom = sample.boxes[0].astype(int)
    # The pixels from 0 to 10 are numbered 1 to 10, and both are in the box.
    for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
        assert f"<{name}>{value}</{name}>" in text


@pytest.mark.parametrize("form", ["coco", "voc", "yolo", "masks"])
def test_the_command_writes_scenes(form: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "netspec: 1\ninputs: {image: {shape: [N, 3, 64, 64]}}\nnet: {scores: {conv: 11, kernel: 1}}\n"
        "train: {data: {scenes: 5, test: 4, size: 64}}\n"
    )
    folder = tmp_path / "here"
    words = ["data", str(tmp_path / "net.yaml"), "--out", str(folder), "--format", form, "--limit", "3"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert f"3 scenes in {folder}" in done.output
    assert len(list(folder.rglob("test-*.png"))) == (6 if form == "masks" else 3)
    if form == "coco":
        assert len(json.loads((folder / "annotations.json").read_text())["images"]) == 3


def test_single_digits_have_no_format(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["data", "lenet5", "--out", str(tmp_path / "here"), "--format", "coco"])
    assert done.exit_code == 1
    assert "--format is for scenes, and `digits` are single digits" in done.output


@pytest.mark.parametrize(("form", "choice"), [("voc", Voc(path=".")), ("yolo", YoloText(path="."))])
def test_samples_of_folders_have_the_regions_that_were_found_in_their_files(
    form: Form, choice: Pictures, tmp_path: Path
) -> None:
    regions = {f"{sample.name}.png": np.full((2, 4), i, np.float32) for i, sample in enumerate(written(tmp_path, form))}
    np.savez(tmp_path / "regions.npz", **regions)
    read = everything(choice.model_copy(update={"proposals": str(tmp_path / "regions.npz")}), tmp_path)
    for i, name in enumerate(regions):
        proposals = read[name.removesuffix(".png")].proposals
        assert proposals is not None
        assert proposals.tolist() == [[i] * 4] * 2
