"""Augmentation: image, boxes and mask under one map, worked by hand; what is drawn, and what is left of boxes."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compiler.data import load_data
from compiler.datasets.augment import Drawn, apply, draw, matrix_of, varied
from compiler.datasets.sample import Sample
from compiler.datasets.scenes import digit_scenes
from netspec import load
from netspec.data_choices import Augment, Scenes

EVERYTHING = Augment(
    flip=0.5,
    scale=(0.7, 1.4),
    translate=0.2,
    rotate=30,
    shear=10,
    brightness=0.2,
    contrast=0.3,
    saturation=0.5,
    hue=0.1,
)


def sample(*boxes: tuple[float, float, float, float], height: int = 20, width: int = 40) -> Sample:
    """White boxes on black, numbered from 1 in the mask."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    for number, box in enumerate(boxes):
        left, top, right, bottom = map(int, box)
        image[top:bottom, left:right] = 255
        mask[top:bottom, left:right] = number + 1
    labels = np.arange(len(boxes))
    return Sample("a", image, np.array(boxes, dtype=np.float32).reshape(-1, 4), labels, labels < 0, mask)


def test_a_flip_puts_left_to_right() -> None:
    """Of 40 columns, those from 3 to 10 become those from 40 − 10 to 40 − 3; rows stay."""
    given = sample((3, 5, 10, 15))
    found = apply(given, Drawn(flip=True), 0.5)
    assert found.boxes.tolist() == [[30, 5, 37, 15]]
    assert np.array_equal(found.image, given.image[:, ::-1])
    assert found.mask is not None
    assert given.mask is not None
    assert np.array_equal(found.mask, given.mask[:, ::-1])
    upright = apply(given, Drawn(flip_vertical=True), 0.5)
    assert upright.boxes.tolist() == [[3, 5, 10, 15]]  # 20 − 15 = 5, 20 − 5 = 15
    assert np.array_equal(upright.image, given.image[::-1])
    twice = apply(found, Drawn(flip=True), 0.5)
    assert np.array_equal(twice.image, given.image)
    assert np.array_equal(twice.boxes, given.boxes)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        # About the centre (20, 10): x → 20 + 2·(x − 20), y → 10 + 2·(y − 10)
        (Drawn(scale=2.0), (16, 4, 28, 12)),
        # 40·0.25 = 10 columns to the right, 20·(−0.1) = 2 rows up
        (Drawn(translate=(0.25, -0.1)), (28, 5, 34, 9)),
        # A quarter turn clockwise: (dx, dy) → (−dy, dx). dx from −2 to 4, dy from −3 to 1: x to 19…23, y to 8…14
        (Drawn(rotate=90.0), (19, 8, 23, 14)),
        # x → x + tan 45° · (y − 10): the upper edge by −3, the lower one by +1
        (Drawn(shear=45.0), (15, 7, 25, 11)),
        # First mirrored: dx from −4 to 2; then moved by 4 columns
        (Drawn(flip=True, translate=(0.1, 0.0)), (20, 7, 26, 11)),
    ],
)
def test_corners_go_where_the_map_sends_them(drawn: Drawn, expected: tuple[float, ...]) -> None:
    found = apply(sample((18, 7, 24, 11)), drawn, 0.1)
    assert np.allclose(found.boxes, [expected], atol=1e-5)


@pytest.mark.parametrize(
    "drawn", [Drawn(scale=2.0), Drawn(translate=(0.25, -0.1)), Drawn(rotate=90.0), Drawn(flip=True, scale=0.5)]
)
def test_pixels_go_where_the_boxes_go(drawn: Drawn) -> None:
    """Maps of whole pixels: what is white, and what is numbered, is what is within the box."""
    found = apply(sample((18, 6, 24, 10)), drawn, 0.1)
    left, top, right, bottom = found.boxes[0].astype(int)
    inside = np.zeros((20, 40), dtype=bool)
    inside[top:bottom, left:right] = True
    assert found.mask is not None
    assert np.array_equal(found.mask == 1, inside)
    middle = found.image[top + 1 : bottom - 1, left + 1 : right - 1]
    assert (middle > 250).all()
    assert (found.image[(found.mask == 0) & ~_near(inside)] < 5).all()


def _near(inside: np.ndarray) -> np.ndarray:
    """The pixels beside those inside, which are mixed where the image is made larger."""
    return np.logical_or.reduce([np.roll(inside, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def test_what_comes_from_outside_is_grey_and_ignored() -> None:
    found = apply(sample((18, 7, 24, 11)), Drawn(translate=(0.25, 0.0)), 0.1)
    assert found.mask is not None
    assert (found.mask[:, :10] == 255).all()
    assert set(np.unique(found.image[:, :10])) <= {127, 128}
    assert (found.mask[:, 10:] != 255).all()


@pytest.mark.parametrize(("visible", "kept"), [(0.0, [0, 1]), (0.25, [0, 1]), (0.3, [0]), (1.0, [0])])
def test_boxes_of_which_too_little_is_left_are_dropped(visible: float, kept: list[int]) -> None:
    """Ten columns to the left: of the box from 4 to 12 a quarter is left, from 0 to 2; of that from 1 to 5 nothing."""
    given = sample((20, 5, 30, 15), (4, 5, 12, 15), (1, 5, 5, 15))
    found = apply(given, Drawn(translate=(-0.25, 0.0)), visible)
    assert found.labels.tolist() == kept
    assert found.boxes.tolist() == [[10, 5, 20, 15], [0, 5, 2, 15]][: len(kept)]
    assert len(found.ignore) == len(kept)


def test_proposals_are_moved_and_stay_as_many() -> None:
    given = replace(sample((20, 5, 30, 15)), proposals=np.array([[0, 0, 5, 5], [20, 5, 30, 15]], dtype=np.float32))
    found = apply(given, Drawn(translate=(-0.25, 0.0)), 0.5)
    assert found.proposals is not None
    assert found.proposals.tolist() == [[0, 0, 0, 5], [10, 5, 20, 15]]


def test_an_image_without_boxes_stays_one() -> None:
    found = apply(sample(), Drawn(scale=0.5, rotate=10), 0.5)
    assert found.boxes.shape == (0, 4)


def test_brightness_and_contrast_are_what_they_say() -> None:
    grey = replace(sample(), image=np.full((4, 4, 3), 100, dtype=np.uint8), mask=None)
    assert (apply(grey, Drawn(brightness=0.2), 0.5).image == 151).all()  # 100 + 0.2·255
    halves = grey.image.copy()
    halves[:2] = 200
    # About the mean, 150: 150 + 0.5·(200 − 150) and 150 + 0.5·(100 − 150)
    found = apply(replace(grey, image=halves), Drawn(contrast=0.5), 0.5).image
    assert np.abs(found[:2].astype(int) - 175).max() <= 1
    assert np.abs(found[2:].astype(int) - 125).max() <= 1
    assert np.array_equal(apply(grey, Drawn(hue=0.25, saturation=2.0), 0.5).image, grey.image)  # grey has no colour
    red = replace(grey, image=np.broadcast_to(np.array([200, 0, 0], dtype=np.uint8), (4, 4, 3)).copy())
    green = apply(red, Drawn(hue=1 / 3), 0.5).image[0, 0]
    assert np.abs(green.astype(int) - [0, 200, 0]).max() <= 1


def test_nothing_asked_for_is_nothing_done() -> None:
    given = sample((3, 5, 10, 15))
    assert varied(given, Augment(), 0, 0, 0) is given


def test_what_is_drawn_follows_from_seed_epoch_and_index() -> None:
    given = digit_scenes(Scenes(count=1, test=1, size=32, shown=(2, 2))).train.read(0)

    def image(seed: int, epoch: int, index: int) -> bytes:
        return varied(given, EVERYTHING, seed, epoch, index).image.tobytes()

    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    alone = [image(*place) for place in places]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda place: image(*place), places * 3)] == alone * 3


def test_one_setting_changes_no_other() -> None:
    drawn = [draw(augment, np.random.default_rng(5)) for augment in (EVERYTHING, Augment(rotate=30))]
    assert drawn[0].rotate == drawn[1].rotate
    assert replace(drawn[1], rotate=0.0) == Drawn()


def test_draws_stay_within_their_bounds_and_reach_them() -> None:
    drawn = [draw(EVERYTHING, np.random.default_rng(seed)) for seed in range(400)]
    assert 0.7 <= min(one.scale for one in drawn) < 0.72
    assert 1.37 < max(one.scale for one in drawn) <= 1.4
    assert abs(np.mean([math.log(one.scale) for one in drawn]) - math.log(0.7 * 1.4) / 2) < 0.04
    assert 28 < max(one.rotate for one in drawn) <= 30
    assert -0.2 <= min(one.translate[1] for one in drawn) < -0.19
    assert 160 < sum(one.flip for one in drawn) < 240


def test_a_map_and_the_one_back_are_nothing() -> None:
    there, back = matrix_of(Drawn(scale=2, rotate=30), 20, 40), matrix_of(Drawn(scale=0.5, rotate=-30), 20, 40)
    assert np.allclose(there @ back, np.eye(3))


def test_images_of_classifiers_are_varied_too(tmp_path: Path) -> None:
    for label, value in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8, 3), value, dtype=np.uint8)
            pixels[:, :2] = number
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    for data, channels in (("{folder: images}", 3), ("digits", 1)):
        (tmp_path / "net.yaml").write_text(
            f"netspec: 1\ninputs: {{image: {{shape: [N, {channels}, 8, 8]}}}}\n"
            f"net: [flatten, {{linear: {2 if channels == 3 else 10}}}]\n"
            f"train: {{data: {data}, augment: {{flip: 1.0}}}}\n"
        )
        network = load(tmp_path / "net.yaml")
        split = load_data(network, network.sections["train"].data, tmp_path).train
        chosen = torch.tensor([2, 0])
        plain, varied = split.batch(chosen).inputs[0], split.batch(chosen, epoch=0).inputs[0]
        assert plain.shape == (2, channels, 8, 8)
        assert torch.allclose(varied, plain.flip(3), atol=1e-6)
        assert not torch.allclose(varied, plain, atol=1e-2)
