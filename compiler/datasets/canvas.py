"""Cluttered canvases: gradients, textures, strokes, blobs and pieces of digits, none of which is a whole digit."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from compiler.datasets.sample import Array

PIECE = 4  # rows and columns of a piece of a digit, which has 8
INK = 128.0  # of 255: where the edge of a stroke is


def canvas(rng: np.random.Generator, size: tuple[int, int], clutter: float, pieces: Array, ink: float) -> Array:
    """A canvas, height × width × 3 float32 from 0 to 255.

    Args:
        clutter: how much there is on it, from 0 to 1.
        pieces: images of digits, n × 8 × 8, to cut pieces from.
        ink: how high digits on it are, in pixels: pieces are as large as pieces of them.
    """
    pixels = _gradient(rng, size, 90 * clutter)
    if clutter == 0:
        return pixels
    pixels += _texture(rng, size, 18 * clutter)
    if rng.random() < 0.4 * clutter:
        pixels += _stripes(rng, size)
    image = Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
    _shapes(rng, image, int(rng.integers(0, 1 + round(7 * clutter))))
    pixels = np.asarray(image).astype(np.float32)
    for _ in range(int(rng.integers(0, 1 + round(9 * clutter)))):
        _piece(rng, pixels, pieces[rng.integers(len(pieces))], ink)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(2, 10) * clutter)
    return pixels + noise


def _gradient(rng: np.random.Generator, size: tuple[int, int], spread: float) -> Array:
    """From one colour to another, in any direction."""
    height, width = size
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width)
    ramp = (np.sin(angle) * rows[:, None] + np.cos(angle) * columns[None]).astype(np.float32)
    middle = (rng.uniform(30, 225) + rng.uniform(-25, 25, 3)).astype(np.float32)
    change = rng.uniform(-spread, spread, 3).astype(np.float32)
    return np.asarray(ramp[..., None] * change + middle)


def _texture(rng: np.random.Generator, size: tuple[int, int], depth: float) -> Array:
    """Smooth noise of some coarseness, alike in all colours."""
    cells = [max(2, side // int(rng.integers(4, 33))) for side in size]
    coarse = Image.fromarray(rng.standard_normal(cells, dtype=np.float32))
    smooth = np.asarray(coarse.resize(size[::-1], Image.Resampling.BILINEAR))
    return smooth[..., None] * rng.uniform(depth / 4, depth, 3).astype(np.float32)


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Waves in any direction, 5 to 25 pixels long."""
    angle, pulse = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(5, 25)
    rows, columns = np.arange(size[0]), np.arange(size[1])
    # sin(a + b) from a row and a column, as sines of all pixels take long
    a, b = rows * (pulse * np.sin(angle)), columns * (pulse * np.cos(angle))
    waves = np.outer(np.sin(a), np.cos(b)) + np.outer(np.cos(a), np.sin(b))
    return waves.astype(np.float32)[..., None] * np.float32(rng.uniform(3, 14))


def _shapes(rng: np.random.Generator, image: Image.Image, count: int) -> None:
    """Strokes right across the canvas, wide arcs, and blobs: nothing of the size and thickness of a digit."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    side = min(width, height)
    for kind in rng.integers(0, 4, count):
        colour = tuple(int(value) for value in rng.integers(20, 236, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        thick = int(rng.integers(1, 2 + side // 40))
        if kind == 0:
            angle, reach = rng.uniform(0, 2 * np.pi), width + height
            dx, dy = reach * np.cos(angle), reach * np.sin(angle)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=thick)
        elif kind == 1:
            r = rng.uniform(0.5, 1.2) * side
            start = rng.uniform(0, 360)
            draw.arc((x - r, y - r, x + r, y + r), start, start + rng.uniform(60, 200), fill=colour, width=thick)
        elif kind == 2:
            rx, ry = rng.uniform(0.03, 0.2, 2) * side
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)
        else:
            rx, ry = rng.uniform(0.03, 0.25, 2) * side
            draw.rectangle((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _piece(rng: np.random.Generator, pixels: Array, digit: Array, ink: float) -> None:
    """Draws a quarter of a digit, turned any way."""
    row, column = rng.integers(0, 8 - PIECE + 1, 2)
    part = np.rot90(digit[row : row + PIECE, column : column + PIECE], int(rng.integers(4)))
    side = max(4, round(ink * PIECE / 8))
    cover = stroke(np.pad(part, 1), (side, side), 0.0)
    height, width = pixels.shape[:2]
    top, left = int(rng.integers(0, max(1, height - side))), int(rng.integers(0, max(1, width - side)))
    place = pixels[top : top + side, left : left + side]
    cover = cover[: place.shape[0], : place.shape[1], None]
    place += cover * (rng.uniform(0, 255, 3).astype(np.float32) - place)


def stroke(digit: Array, size: tuple[int, int], angle: float) -> Array:
    """A small image of strokes, drawn large: how much each pixel is covered, height × width float32 from 0 to 1.

    Args:
        size: height and width of the whole drawing.
        angle: by which it is turned clockwise, in radians.
    """
    height, width = size
    rows, columns = digit.shape
    cos, sin = np.cos(angle), np.sin(angle)
    # From a pixel of the drawing back to the small image, about the centres of both.
    matrix = np.array([[cos * columns / width, sin * columns / width], [-sin * rows / height, cos * rows / height]])
    offset = np.array([columns / 2, rows / 2]) - matrix @ np.array([width / 2, height / 2])
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    source = Image.fromarray(digit.astype(np.float32))
    drawn = source.transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    # An edge is one pixel wide, however large the drawing is.
    sharpness = 2.0 * height / rows / 255
    return np.clip((np.asarray(drawn) - INK) * np.float32(sharpness) + 0.5, 0, 1)
