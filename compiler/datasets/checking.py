"""Boxes as they are written, held against the image that they are in."""

from __future__ import annotations

import math

import numpy as np

from compiler.datasets.sample import Array

# Boxes are written with rounded numbers: so far they may stick out of the image, and are cut off there.
TOLERANCE = 1.0


def fault_of_box(box: tuple[float, float, float, float], width: float, height: float) -> str:
    """What is wrong with a box, left, top, right, bottom, in words; empty where nothing is."""
    if not all(math.isfinite(side) for side in box):
        return f"the box {_shown(box)} is not made of finite numbers"
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return f"the box {_shown(box)} has no area"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return f"the box {_shown(box)} is outside the image, which is {width:g} × {height:g}"
    out = max(-left, -top, right - width, bottom - height)
    if out > TOLERANCE:
        return f"the box {_shown(box)} sticks out of the image, which is {width:g} × {height:g}, by {out:.6g} pixels"
    return ""


def _shown(box: tuple[float, ...]) -> str:
    return f"({', '.join(f'{side:.6g}' for side in box)})"


def clipped(boxes: Array, width: float, height: float) -> Array:
    """Boxes n × 4, cut off at the image's borders."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=boxes.dtype))
