"""Images varied anew in every epoch, with their boxes and masks, by Kornia.

What is drawn follows from the seed, the epoch and the sample's number alone: not from the order in which samples are
read, nor from the thread that does it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import kornia.enhance
import kornia.geometry.transform
import numpy as np
import torch
from torch import Tensor

from compiler.datasets.checking import clipped
from compiler.datasets.sample import IGNORED, Array, Sample
from netspec.data_choices import Augment

FILL = 0.5  # of white: what lies outside the image
LEAST_SIDE = 1.0  # pixels: boxes that are narrower are not kept


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn for a sample.

    Attributes:
        flip, flip_vertical: whether it is mirrored left to right, and top to bottom.
        scale: a factor.
        translate: along x and y, as shares of the width and height.
        rotate, shear: angles in degrees; x and y point right and down, so they turn clockwise.
        brightness: what is added, as a share of white; contrast, saturation: factors; hue: a share of the circle.
    """

    flip: bool = False
    flip_vertical: bool = False
    scale: float = 1.0
    translate: tuple[float, float] = (0.0, 0.0)
    rotate: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


def varied(sample: Sample, augment: Augment, seed: int, epoch: int, index: int) -> Sample:
    """A sample as it is shown in an epoch. Boxes are cut off at the borders, and left out where little is left of them.

    Proposals are moved in the same way, and stay as many; which pixels belong to which object is no longer known.
    """
    return apply(sample, draw(augment, np.random.default_rng([seed, epoch, index])), augment.visible)


def varied_pixels(pixels: Tensor, augment: Augment, seed: int, epoch: int, indices: Sequence[int]) -> Tensor:
    """Images of one size and of one channel or three, N × C × H × W uint8, as they are shown in an epoch.

    Args:
        indices: their samples' numbers.
    """
    nothing = np.zeros(0, dtype=np.int64)
    found = []
    for image, index in zip(pixels, indices, strict=True):
        colours = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        given = Sample("", colours, np.zeros((0, 4), dtype=np.float32), nothing, nothing.astype(bool))
        shown = varied(given, augment, seed, epoch, index).image
        found.append(torch.from_numpy(np.ascontiguousarray(shown[..., : len(image)].transpose(2, 0, 1))))
    return torch.stack(found)


def draw(augment: Augment, rng: np.random.Generator) -> Drawn:
    """What is done to one sample. As much is drawn whatever is asked for, so that one setting changes no other."""
    chances = rng.random(2)
    within = rng.uniform(-1, 1, 8).tolist()
    least, most = (math.log(bound) for bound in augment.scale)
    return Drawn(
        flip=bool(chances[0] < augment.flip),
        flip_vertical=bool(chances[1] < augment.flip_vertical),
        scale=math.exp(least + (most - least) * float(rng.random())),
        translate=(within[0] * augment.translate, within[1] * augment.translate),
        rotate=within[2] * augment.rotate,
        shear=within[3] * augment.shear,
        brightness=within[4] * augment.brightness,
        contrast=1 + within[5] * augment.contrast,
        saturation=1 + within[6] * augment.saturation,
        hue=within[7] * augment.hue,
    )


def matrix_of(drawn: Drawn, height: int, width: int) -> Array:
    """The map of points (x, y, 1) of the image, 3 × 3, in the coordinates of boxes: the image goes from 0 to its size.

    Mirrored, scaled, sheared along x, and turned, all about the centre; then moved.
    """
    angle = math.radians(drawn.rotate)
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    sheared = np.array([[1, math.tan(math.radians(drawn.shear))], [0, 1]])
    mirrored = np.diag([-1.0 if drawn.flip else 1.0, -1.0 if drawn.flip_vertical else 1.0])
    centre = np.array([width / 2, height / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = turned @ sheared @ mirrored * drawn.scale
    matrix[:2, 2] = centre + np.array(drawn.translate) * [width, height] - matrix[:2, :2] @ centre
    return matrix


def apply(sample: Sample, drawn: Drawn, visible: float) -> Sample:
    """A sample with this done to it.

    Args:
        visible: what has to be left of a box, as a share of its area, that it is kept.
    """
    if drawn == Drawn():
        return sample
    height, width = sample.image.shape[:2]
    matrix = matrix_of(drawn, height, width)
    image = _recoloured(_warped(_planes(sample.image) / 255, matrix, drawn, FILL, "bilinear"), drawn)
    mask = sample.mask
    if mask is not None:
        planes = _warped(_planes(mask[..., None]), matrix, drawn, IGNORED, "nearest")
        mask = planes[0, 0].round().to(torch.uint8).numpy()
    boxes, left = moved(sample.boxes, matrix, width, height)
    kept = left >= max(visible, 1e-9)
    kept &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=math.inf) >= LEAST_SIDE
    proposals = sample.proposals
    return replace(
        sample,
        image=(image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy(),
        boxes=boxes[kept],
        labels=sample.labels[kept],
        ignore=sample.ignore[kept],
        mask=mask,
        proposals=None if proposals is None else moved(proposals, matrix, width, height)[0],
        instances=None,
    )


def moved(boxes: Array, matrix: Array, width: int, height: int) -> tuple[Array, Array]:
    """The boxes around mapped boxes n × 4, cut off at the borders; and the share of each area that this leaves."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    points = corners @ matrix[:2, :2].T + matrix[:2, 2]
    around = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    inside = clipped(around, width, height)
    area, whole = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (inside, around))
    return inside.astype(np.float32), np.divide(area, whole, out=np.zeros(len(boxes)), where=whole > 0)


def _planes(pixels: Array) -> Tensor:
    """H × W × C as 1 × C × H × W float32."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


def _warped(planes: Tensor, matrix: Array, drawn: Drawn, fill: float, mode: str) -> Tensor:
    """An image mapped; what lies outside is filled."""
    height, width = planes.shape[2:]
    if np.array_equal(np.abs(matrix[:2, :2]), np.eye(2)) and drawn.translate == (0.0, 0.0):
        if drawn.flip:
            planes = kornia.geometry.transform.hflip(planes)
        return kornia.geometry.transform.vflip(planes) if drawn.flip_vertical else planes
    # Kornia's points are numbers of pixels, whose centres lie half a pixel further in the coordinates of boxes.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    affine = torch.from_numpy((np.linalg.inv(half) @ matrix @ half)[:2].astype(np.float32))[None]
    warped: Tensor = kornia.geometry.transform.warp_affine(planes - fill, affine, (height, width), mode)
    return warped + fill


def _recoloured(image: Tensor, drawn: Drawn) -> Tensor:
    """An image, from 0 to 1, with other brightness, contrast and colours."""
    if drawn.brightness:
        image = kornia.enhance.adjust_brightness(image, drawn.brightness)
    if drawn.contrast != 1:
        image = kornia.enhance.adjust_contrast_with_mean_subtraction(image, drawn.contrast)
    if drawn.saturation != 1:
        image = kornia.enhance.adjust_saturation(image, drawn.saturation)
    if drawn.hue:
        image = kornia.enhance.adjust_hue(image, drawn.hue * 2 * math.pi)
    return image.clamp(0, 1)
