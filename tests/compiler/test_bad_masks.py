"""What is said of masks and outlines that can't be used, and which pixels those that can are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compiler.datasets.images import read_mask
from compiler.datasets.outlines import OutlineError, pixels_of
from netspec.data_choices import Masks
from tests.compiler.bad_pictures import (
    NAMES,
    all_read,
    coco_file,
    left_out,
    picture,
    refused,
)


def test_masks_that_are_none(tmp_path: Path) -> None:
    for name in NAMES:
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "masks").mkdir()
    for name in "acd":
        Image.new("L", (40, 20)).save(tmp_path / "masks" / f"{name}.png")
    choice = Masks(path=".", names=("nothing", "cat"))
    assert refused(choice, tmp_path) == "`images/b.png` has no mask `masks/b.png`"
    assert left_out(choice, tmp_path) == ["`images/b.png` has no mask `masks/b.png`"]
    Image.new("L", (20, 40)).save(tmp_path / "masks" / "b.png")
    message = "`masks/b.png` is 20 × 40, its image `images/b.png` is 40 × 20"
    assert refused(choice, tmp_path) == message
    Image.new("RGB", (40, 20)).save(tmp_path / "masks" / "b.png")
    assert "is in colours (RGB), and a mask has one number for each pixel" in refused(choice, tmp_path)
    Image.new("L", (40, 20), 2).save(tmp_path / "masks" / "b.png")
    assert "has the number 2, and there are 2 classes, numbered from 0" in refused(choice, tmp_path)
    Image.new("L", (40, 20), 255).save(tmp_path / "masks" / "b.png")
    assert all_read(choice, tmp_path).faults.skipped == {}
    picture(tmp_path / "masks" / "z.png")
    assert "is the mask of no image" in refused(choice, tmp_path)


def test_masks_with_a_palette_are_their_numbers(tmp_path: Path) -> None:
    """As Pascal VOC has them: classes 0 and 1, shown in colours, and 255."""
    mask = np.array([[0, 1], [255, 1]], dtype=np.uint8)
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 128, 0, 0] + [7] * 756 + [224, 224, 192])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        (None, "is neither a list of polygons nor lengths of runs"),
        ([[1, 1, 5, 5]], "has a polygon that is not x and y of three corners or more"),
        ([[1, 1, 5, float("nan"), 3, 3]], "has a corner that is not made of finite numbers"),
        ({"size": [20, 30], "counts": [600]}, "is for a size of [20, 30], the image is 20 × 40"),
        ({"size": [20, 40], "counts": [5, 10]}, "has runs of pixels that are not 800 together"),
        ({"size": [20, 40], "counts": [-5, 805]}, "has runs of pixels that are not 800 together"),
        ({"size": [20, 40], "counts": "oooooooooooooooooo"}, "has runs of pixels that are no such text"),
        ({"size": [20, 40], "counts": "\u00ff"}, "has runs of pixels that are no such text"),
    ],
)
def test_outlines_that_are_none(outline: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OutlineError) as caught:
        pixels_of(outline, 20, 40)
    assert str(caught.value) == reason
    choice = coco_file(tmp_path, annotations_1={"segmentation": outline}).model_copy(update={"outlines": True})
    assert "annotation 1" in refused(choice, tmp_path)


def test_an_outline_is_the_pixels_within_it() -> None:
    """A rectangle, as a polygon, as runs down the columns, and as the text that COCO makes of these."""
    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 2:4] = True
    assert np.array_equal(pixels_of([[2, 1, 4, 1, 4, 3, 2, 3]], 4, 5), expected)
    # Two columns of four, one pixel; two inside, two outside, two inside; one pixel, and a column.
    runs = [9, 2, 2, 2, 5]
    assert np.array_equal(pixels_of({"size": [4, 5], "counts": runs}, 4, 5), expected)
    # From the third on a text has differences to the last but one: 9, 2, 2, 2 − 2, 5 − 2, each with 48 added.
    assert np.array_equal(pixels_of({"size": [4, 5], "counts": "92203"}, 4, 5), expected)
