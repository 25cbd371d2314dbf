"""Held-out images twice, side by side: with the truth on the left, with what was found on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compiler.datasets.sample import Array
from compiler.evaluation.detection import Found

SIDE = 320  # pixels: how wide an image is shown, and how high at most
GAP = 8
TEXT = 13
ACROSS = 2  # images in a row, each of them twice
DRAWN_SCORE = 0.3  # detections below it are not drawn
# Okabe and Ito's colours, which people with any colour vision tell apart; a class has the same one everywhere.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
DARK, GREY, WHITE = (30, 30, 30), (128, 128, 128), (255, 255, 255)


def draw_detections(shown: Sequence[tuple[Array, Found]], labels: Sequence[str]) -> Image.Image:
    """Boxes with their classes, and those that were found with their scores."""

    def drawn(pixels: Array, boxes: Array, texts: Sequence[str], colours: Sequence[tuple[int, ...]]) -> Image.Image:
        image, scale = _enlarged(pixels)
        pen = ImageDraw.Draw(image)
        for box, colour in zip(boxes, colours, strict=True):
            pen.rectangle([float(side) * scale for side in box], outline=colour, width=2)
        for box, text, colour in zip(boxes, texts, colours, strict=True):
            _label(pen, image, float(box[0]) * scale, float(box[1]) * scale, text, colour)
        return image

    def truth(pixels: Array, found: Found) -> Image.Image:
        texts = [labels[label] for label in found.truth_labels]
        colours = [
            GREY if ignore else _colour(label) for label, ignore in zip(found.truth_labels, found.ignore, strict=True)
        ]
        return drawn(pixels, found.truth, texts, colours)

    def made(pixels: Array, found: Found) -> Image.Image:
        # The surest last, so that they lie on top.
        order = [index for index in np.argsort(found.scores) if found.scores[index] >= DRAWN_SCORE]
        texts = [f"{labels[found.labels[index]]} {found.scores[index]:.2f}" for index in order]
        return drawn(pixels, found.boxes[order], texts, [_colour(found.labels[index]) for index in order])

    return _pairs([(truth(*one), made(*one)) for one in shown])


def _colour(label: int) -> tuple[int, int, int]:
    """The colour of a class; beyond the seventh the colours come again, darker each time."""
    shade = 0.65 ** (int(label) // len(COLOURS))
    red, green, blue = (round(value * shade) for value in COLOURS[int(label) % len(COLOURS)])
    return red, green, blue


def _enlarged(pixels: Array) -> tuple[Image.Image, float]:
    """An image as large as it is shown, and by how much it was enlarged."""
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC), scale


def _label(
    pen: ImageDraw.ImageDraw, image: Image.Image, left: float, top: float, text: str, colour: tuple[int, ...]
) -> None:
    """Writes above a box, or within it where there is no room above."""
    font = ImageFont.load_default(TEXT)
    width, height = font.getlength(text) + 4, TEXT + 3
    left = max(0.0, min(left, image.width - width))
    top = top - height if top >= height else top
    pen.rectangle((left, top, left + width, top + height), fill=colour)
    pen.text((left + 2, top + height / 2), text, WHITE, font, anchor="lm")


def _pairs(pairs: Sequence[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """The pairs on one white page, under the words that say what is on which side."""
    across = min(ACROSS, len(pairs))
    rows = [pairs[index : index + across] for index in range(0, len(pairs), across)]
    heights = [max(image.height for pair in row for image in pair) for row in rows]
    page = Image.new("RGB", (across * (2 * SIDE + 3 * GAP), sum(heights) + GAP * len(rows) + 2 * TEXT), WHITE)
    pen, top = ImageDraw.Draw(page), 2 * TEXT
    for row, height in zip(rows, heights, strict=True):
        for column, pair in enumerate(row):
            left = column * (2 * SIDE + 3 * GAP) + GAP
            for side, (image, title) in enumerate(zip(pair, ("truth", "found"), strict=True)):
                page.paste(image, (left + side * (SIDE + GAP), top))
                pen.text((left + side * (SIDE + GAP), TEXT), title, DARK, ImageFont.load_default(TEXT), anchor="lm")
        top += height + GAP
    return page
