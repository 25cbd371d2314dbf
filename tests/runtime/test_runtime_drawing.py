"""``netspec predict --draw``: boxes and masks on the image itself, one whole file for each image."""

import errno
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.answering.drawing import MIN_TEXT, PALETTE, draw_mask, draw_objects
from runtime.answering.objects import Found, Mask, Region
from tests.runtime.conftest import SaveModel
from tests.runtime.test_runtime_predict import refused, report, run
from tests.runtime.test_runtime_predict_objects import BLUE, RED, saved

GREY = np.full((240, 320, 3), 90, np.uint8)

# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# table 1, severity 1.0: linear RGB as a person with the deficiency sees it.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB 0…255 as linear light (IEC 61966-2-1)."""
    values = colours / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, by the white of D65."""
    ratio = np.clip(light, 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("vision", DEFICIENCIES)
def test_colours_differ_for_every_vision(vision: str) -> None:
    seen = lab(linear(np.array(PALETTE)) @ np.array(DEFICIENCIES[vision]).T)
    # a difference of 2.3 can just be noticed (Mahy 1994)
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 4 * 2.3


def test_boxes_on_the_image_at_its_own_size() -> None:
    picture = np.asarray(draw_objects(GREY, [Found("cat", 1, 0.9, (100, 80, 200, 180))]))
    assert picture.shape == GREY.shape
    for x, y in ((100, 130), (199, 130), (150, 179)):
        assert tuple(picture[y, x]) == PALETTE[1]
    changed = np.argwhere((picture != GREY).any(axis=2))
    assert changed.min(axis=0).tolist()[1] == 100
    assert changed.max(axis=0).tolist() == [179, 199]
    assert (picture[90:170, 110:190] == 90).all()
    label = picture[changed.min(axis=0)[0] : 80, 100:150].reshape(-1, 3)
    assert {PALETTE[1], (0, 0, 0)} <= {tuple(colour) for colour in label.tolist()}
    assert (GREY == 90).all()


def areas(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def letters(picture: Image.Image) -> int:
    """How many pixels are darker than the grey image and every colour."""
    return int((np.asarray(picture) < 70).all(axis=2).sum())


@pytest.mark.parametrize("box", [(-50, -50, 60, 40), (290, -10, 400, 40), (290, 200, 400, 300), (-9, 230, 5, 250)])
def test_labels_stay_inside(box: tuple[int, int, int, int]) -> None:
    picture = draw_objects(GREY, [Found("person", 0, 0.5, box)])
    assert picture.size == (320, 240)
    assert letters(picture) > 40


def test_labels_stay_apart() -> None:
    first, second = (Found("person", 0, 0.5, (60, 100, 200, 160)), Found("person", 2, 0.4, (64, 104, 205, 165)))
    alone = np.asarray(draw_objects(GREY, [first]))
    both = np.asarray(draw_objects(GREY, [first, second]))
    assert (alone[80:100] == both[80:100]).all()  # where the first label is, and the second would be
    assert areas(Image.fromarray(both), PALETTE[2]) > areas(Image.fromarray(alone), PALETTE[2]) + 300


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (1000, 9), (64, 500)])
def test_what_has_no_room_stands_below(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((height, width, 1), 90, np.uint8)
    picture = draw_objects(pixels, [Found("a cat", 1, 0.9, (0, 0, width, height))])
    assert picture.height >= height + MIN_TEXT
    assert picture.width >= max(width, 4 * MIN_TEXT)
    strip = picture.crop((0, height, picture.width, picture.height))
    assert areas(strip, PALETTE[1]) > 50
    assert letters(strip) > 50
    assert draw_objects(pixels, []).size == size


def mask_of(numbers: np.ndarray, labels: list[str]) -> Mask:
    counts = np.bincount(numbers.ravel())
    return Mask(
        numbers,
        tuple(Region(labels[i], int(i), int(counts[i]), counts[i] / numbers.size) for i in np.flatnonzero(counts)),
    )


def test_masks_are_translucent_and_the_background_is_left() -> None:
    numbers = np.zeros((240, 320), np.int64)
    numbers[50:100, 60:160] = 2
    picture = np.asarray(draw_mask(GREY, mask_of(numbers, ["background", "cat", "dog"])))
    assert (picture[:240][numbers == 0] == 90).all()
    np.testing.assert_allclose(picture[75, 100], 0.55 * np.array(PALETTE[2]) + 0.45 * 90, atol=1)
    assert picture.shape[0] > 240
    everything = draw_mask(GREY, mask_of(np.zeros((240, 320), np.uint8), ["road"]))
    np.testing.assert_allclose(np.asarray(everything)[9, 9], 0.55 * np.array(PALETTE[0]) + 0.45 * 90, atol=1)


def test_classes_of_one_colour_differ_by_a_pattern() -> None:
    labels = [str(index) for index in range(60)]
    patches = [
        np.asarray(draw_mask(GREY, mask_of(np.full((240, 320), index), labels)))[:240] for index in range(3, 42, 7)
    ]
    for one, other in itertools.combinations(patches, 2):
        assert (one != other).any(axis=2).mean() > 0.05


def test_long_and_odd_labels() -> None:
    found = [Found("a\nb\t" + "x" * 500, 0, 0.5, (10, 90, 90, 150))]
    assert draw_objects(GREY, found).size == (320, 240)
    assert draw_objects(GREY[:20], found).width <= 600


def test_pictures_are_named_apart(detector: Path, tmp_path: Path) -> None:
    patch = ((20, 30, 150, 100), RED)
    files = [
        saved(tmp_path / "at" / "a.png", (200, 160), patch),
        saved(tmp_path / "at" / "A.jpg", (200, 160), patch),
        saved(tmp_path / "by" / "a.png", (300, 160), patch),
        saved(tmp_path / "by" / "b.png", (20, 10)),
    ]
    folder = tmp_path / "new" / "drawn"
    told = report(detector, *files, "--draw", folder)["predictions"]
    assert [one["picture"] for one in told] == [str(folder / f"{name}.png") for name in ("a", "A-2", "a-3", "b")]
    assert sorted(path.name for path in folder.iterdir()) == ["A-2.png", "a-3.png", "a.png", "b.png"]
    sizes = [Image.open(one["picture"]).size for one in told]
    assert sizes == [(200, 160), (200, 160), (300, 160), (20, 10)]
    assert f"4 pictures in {folder}" in run(detector, *files, "--draw", folder).stdout


def test_masks_and_rows_of_arrays_are_drawn(segmenter: Path, tmp_path: Path) -> None:
    image = saved(tmp_path / "a.png", (200, 160), ((20, 30, 150, 100), BLUE))
    np.save(tmp_path / "two.npy", np.stack([np.asarray(Image.open(image))] * 2))
    told = report(segmenter, image, tmp_path / "two.npy", "--draw", tmp_path / "drawn")["predictions"]
    assert [Path(one["picture"]).name for one in told] == ["a.png", "two-0.png", "two-1.png"]
    first, *others = (np.asarray(Image.open(one["picture"])) for one in told)
    np.testing.assert_allclose(first[50, 50], 0.55 * np.array(PALETTE[3]) + 0.45 * np.array(BLUE), atol=1)
    assert all((first == other).all() for other in others)


def test_no_image_is_overwritten(detector: Path, tmp_path: Path) -> None:
    image = saved(tmp_path / "images" / "a.png", (20, 10))
    before = image.read_bytes()
    assert "name another folder for the pictures" in refused(detector, image, "--draw", image.parent)
    assert image.read_bytes() == before


def test_places_that_cannot_be_written(detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = saved(tmp_path / "images" / "a.png", (20, 10))
    assert "cannot make the directory" in refused(detector, image, "--draw", detector)
    folder = tmp_path / "drawn"
    report(detector, image, "--draw", folder)
    before = (folder / "a.png").read_bytes()

    def full(self: Image.Image, file: Path, **options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert "No space left on device" in refused(detector, image, "--draw", folder)
    assert [path.read_bytes() for path in folder.iterdir()] == [before]


def test_a_model_that_takes_prepared_images_draws_nothing(save_detector: SaveModel, tmp_path: Path) -> None:
    image = saved(tmp_path / "a.png", (20, 10))
    plain = save_detector(metadata={})
    assert "nothing can be drawn" in refused(plain, image, "--draw", tmp_path / "drawn")
