"""Pictures of masks: an image, the true classes of its pixels and the predicted ones, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]
GAP = 4  # pixels between panels
SHARE = 0.65  # of a class's colour over the image
LEAST = 160  # pixels of a panel's shorter side: smaller ones are enlarged by a whole factor


def palette() -> Array:
    """256 × 3 colours, one for each class number. The bits of the number, dealt out to red, green and blue in turn, are
    those of the colour, highest first; so the first classes differ most. 0 is black.

    Source: the colour map of Everingham et al., Pascal VOC development kit, section 3.2.
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            if 3 * bit + channel < 8:
                colours[:, channel] |= ((numbers >> (3 * bit + channel)) & 1).astype(np.uint8) << (7 - bit)
    return colours


def over(image: Array, mask: Array) -> Array:
    """An image H × W × 3 with a mask H × W in the colours of its classes over it; the background 0 stays as it is."""
    coloured = palette()[mask]
    shares = np.where(mask == 0, 0.0, SHARE)[..., None]
    blended: Array = np.rint(image * (1 - shares) + coloured * shares).astype(np.uint8)
    return blended


def side_by_side(rows: Sequence[tuple[Array, Array, Array]]) -> Image.Image:
    """A row for each image: itself, its true classes, its predicted classes.

    Args:
        rows: images H × W × 3 with masks H × W, of any sizes.
    """
    panels = [[image, over(image, truth), over(image, found)] for image, truth, found in rows]
    factors = [max(1, -(-LEAST // min(row[0].shape[:2]))) for row in panels]
    panels = [
        [panel.repeat(factor, axis=0).repeat(factor, axis=1) for panel in row]
        for row, factor in zip(panels, factors, strict=True)
    ]
    width = max(sum(panel.shape[1] + GAP for panel in row) - GAP for row in panels)
    height = sum(row[0].shape[0] + GAP for row in panels) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for row in panels:
        left = 0
        for panel in row:
            sheet.paste(Image.fromarray(panel), (left, top))
            left += panel.shape[1] + GAP
        top += row[0].shape[0] + GAP
    return sheet
