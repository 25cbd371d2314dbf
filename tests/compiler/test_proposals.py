"""Selective search over image files, the file of regions that it writes, and data sets that read one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compiler.datasets.loading import load_pictures
from compiler.datasets.proposals import with_proposals
from compiler.datasets.sample import Dataset, Sample, SampleError
from compiler.errors import CompilerError
from compiler.proposals import Search, selective_search
from netspec.data_choices import Coco

Run = Callable[..., subprocess.CompletedProcess[str]]


def picture(height: int, width: int, *objects: tuple[int, int, int, int]) -> np.ndarray:
    """A dark canvas with bright rectangles: left, top, right, bottom."""
    image = np.full((height, width, 3), 20, np.uint8)
    for index, (left, top, right, bottom) in enumerate(objects):
        image[top:bottom, left:right] = (200, 60 + 80 * index, 220 - 90 * index)
    return image


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def overlap(boxes: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """The greatest intersection over union of any of the boxes with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = (high - low).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return float((shared / (areas + np.prod(np.subtract(box[2:], box[:2])) - shared)).max())


OBJECTS = ((20, 30, 70, 90), (110, 40, 150, 60))


def test_objects_are_among_the_regions_in_pixels_of_the_image() -> None:
    for factor in (1, 8):  # the larger one, 1,280 pixels wide, is searched at 500 and told of in its own pixels
        objects = [tuple(factor * side for side in box) for box in OBJECTS]
        boxes = selective_search(picture(120 * factor, 160 * factor, *objects), Search())
        assert all(overlap(boxes, box) > 0.9 for box in objects)
        assert boxes.dtype == np.float32
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= 160 * factor).all()
        assert (boxes[:, 3] <= 120 * factor).all()


def test_regions_follow_from_the_seed_and_are_the_best_ranked() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    all_of_them = selective_search(image, Search(min_size=1))
    assert np.array_equal(all_of_them, selective_search(image, Search(min_size=1)))
    assert not np.array_equal(all_of_them, selective_search(image, Search(min_size=1, seed=1)))
    assert np.array_equal(selective_search(image, Search(min_size=1, count=5)), all_of_them[:5])
    large = selective_search(image, Search(min_size=30))
    assert len(large) < len(all_of_them)
    assert ((large[:, 2:] - large[:, :2]) >= 30).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 3)])
def test_the_smallest_images_have_regions_or_none(size: tuple[int, int]) -> None:
    assert selective_search(picture(*size), Search()).shape == (0, 4)
    assert selective_search(picture(*size), Search(min_size=0)).shape[1] == 4


def test_the_command_writes_an_array_for_each_image(tmp_path: Path, netspec: Run) -> None:
    save(picture(60, 80, (10, 10, 40, 40)), tmp_path / "images" / "a.png")
    save(picture(90, 70, (20, 10, 60, 80)), tmp_path / "images" / "deeper" / "b.jpg")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    done = netspec("proposals", "images", "-o", "found.npz", "--count", "50")
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz", allow_pickle=False)
    assert sorted(found.files) == ["a.png", "b.jpg"]
    assert f"{len(found['a.png']) + len(found['b.jpg'])} regions of 2 images in found.npz" in done.stdout
    assert overlap(found["a.png"], (10, 10, 40, 40)) > 0.9
    again = netspec("proposals", "images", "-o", "again.npz", "--count", "50", "--jobs", "1")
    assert again.returncode == 0
    assert all(np.array_equal(np.load(tmp_path / "again.npz")[name], found[name]) for name in found.files)


def test_a_damaged_image_ends_it_by_name_or_is_left_out(tmp_path: Path, netspec: Run) -> None:
    for name in ("a.png", "c.png"):
        save(picture(40, 40, (10, 10, 30, 30)), tmp_path / "images" / name)
    (tmp_path / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing else")
    (tmp_path / "old.npz").write_bytes(b"as it was")
    done = netspec("proposals", "images", "-o", "old.npz")
    assert done.returncode == 1
    assert "b.png` can't be read as an image" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "old.npz").read_bytes() == b"as it was"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["old.npz"]
    skipped = netspec("proposals", "images", "-o", "new.npz", "--on-error", "skip")
    assert skipped.returncode == 0
    assert "left out: `images/b.png` can't be read" in skipped.stderr
    assert sorted(np.load(tmp_path / "new.npz").files) == ["a.png", "c.png"]


def test_what_can_not_be_searched_is_told(tmp_path: Path, netspec: Run) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("one", "two"):
        save(picture(20, 20), tmp_path / folder / "same.png")
    for arguments, words in (
        (["nowhere"], "there is no file or folder `nowhere`"),
        (["empty"], "`empty` holds no images"),
        (["one", "two"], "have one name"),
    ):
        done = netspec("proposals", *arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert not (tmp_path / "proposals.npz").exists()


def test_without_opencv_it_says_what_to_install(tmp_path: Path) -> None:
    save(picture(20, 20), tmp_path / "a.png")
    lines = ("import sys", "sys.modules['cv2'] = None", "from netspec.cli.main import main", "main()")
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(lines), "proposals", "a.png"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "pip install 'netspec[proposals]'" in done.stderr
    assert "Traceback" not in done.stderr


# -- data sets


def coco(folder: Path, *names: str) -> None:
    """Images with an object each, and their annotations."""
    images, annotations = [], []
    for index, name in enumerate(names):
        save(picture(40, 50, (10, 5, 30, 35)), folder / name)
        images.append({"id": index, "file_name": name, "width": 50, "height": 40})
        annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": [10, 5, 20, 30], "area": 600})
        annotations[-1]["iscrowd"] = 0
    known = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "all.json").write_text(json.dumps(known))


def test_samples_come_with_the_regions_of_their_images(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(8)]
    coco(tmp_path, *names)
    regions = {name: np.full((index, 4), index, np.float64) for index, name in enumerate(names)}
    np.savez(tmp_path / "found.npz", **regions)
    parts = load_pictures(Coco(path="all.json", proposals="found.npz"), tmp_path)
    seen = set()
    for data in (parts.train, parts.test):
        for index in range(len(data)):
            sample = data.read(index)
            name = Path(sample.name).name
            assert sample.proposals is not None
            assert sample.proposals.dtype == np.float32
            np.testing.assert_array_equal(sample.proposals, regions[name])
            seen.add(name)
    assert seen == set(names)


def one_sample(name: str) -> Dataset:
    empty = np.zeros((0, 4), np.float32)
    sample = Sample(name, picture(4, 4), empty, np.zeros(0, np.int64), np.zeros(0, bool))
    return Dataset(("thing",), (), [name], lambda index: sample)


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ({"other.png": np.zeros((1, 4))}, "has no regions for `a.png`"),
        ({"a.png": np.zeros((1, 5))}, "`a.png` has 1 × 5 of float64, not boxes"),
        ({"a.png": np.array([[0, 0, np.nan, 1]])}, "is NaN or infinite"),
        ({"a.png": np.array([["x"] * 4])}, "not boxes"),
        ({"a.png": np.array([[None] * 4])}, "damaged, or no numbers"),
    ],
)
def test_wrong_regions_name_the_file_and_the_image(regions: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "found.npz", **regions)
    with pytest.raises(SampleError, match=words) as raised:
        with_proposals(one_sample("folder/a.png"), tmp_path / "found.npz").read(0)
    assert "found.npz" in raised.value.message
    assert raised.value.name == "folder/a.png"


def test_a_missing_or_damaged_file_of_regions_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"PK nothing")
    for name, words in (("no.npz", "is no NumPy archive"), ("missing.npz", "there is no file")):
        with pytest.raises(CompilerError, match=words):
            with_proposals(one_sample("a.png"), tmp_path / name)
