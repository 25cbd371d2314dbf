"""Boxes as arithmetic: areas, overlaps, and the offsets that a network gives in their place.

Boxes are … × 4, left, top, right, bottom. Every function works element by element and broadcasts; `pairwise` makes a
matrix of any of the overlaps. A box whose right or bottom edge is not beyond its left or top one has no area. It
overlaps nothing, and no value or gradient that it leads to is infinite or undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Stands in for what is divided by where that is nothing. The square of it is still a number in float32.
TINY = 1e-7
WHOLE = (1.0, 1.0, 1.0, 1.0)


def area(boxes: Tensor) -> Tensor:
    """Areas, …, of boxes … × 4."""
    left, top, right, bottom = boxes.unbind(-1)
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)


def pairwise(overlap: Callable[[Tensor, Tensor], Tensor], boxes: Tensor, others: Tensor) -> Tensor:
    """An overlap of each of … × n × 4 boxes with each of … × m × 4 others: … × n × m."""
    return overlap(boxes[..., :, None, :], others[..., None, :, :])


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """The area that boxes share."""
    width = torch.minimum(boxes[..., 2], others[..., 2]) - torch.maximum(boxes[..., 0], others[..., 0])
    height = torch.minimum(boxes[..., 3], others[..., 3]) - torch.maximum(boxes[..., 1], others[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union, in [0, 1]. Source: Everingham et al. 2010, equation 3."""
    return _iou_and_union(boxes, others)[0]


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU, in [−1, 1]: IoU − |C ∖ (A ∪ B)| / |C|, C being the smallest box around both.

    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    overlap, union = _iou_and_union(boxes, others)
    width, height = _around(boxes, others)
    hull = width * height
    return overlap - (hull - union) / hull.clamp(min=TINY)


def diou(boxes: Tensor, others: Tensor) -> Tensor:
    """Distance IoU, in [−1, 1]: IoU − ρ²/c², ρ being the distance of the centres and c the diagonal of C as above.

    Source: Zheng et al. 2020, equation 7.
    """
    width, height = _around(boxes, others)
    dx = (others[..., 0] + others[..., 2] - boxes[..., 0] - boxes[..., 2]) / 2
    dy = (others[..., 1] + others[..., 3] - boxes[..., 1] - boxes[..., 3]) / 2
    return iou(boxes, others) - (dx * dx + dy * dy) / (width * width + height * height).clamp(min=TINY)


def ciou(boxes: Tensor, others: Tensor) -> Tensor:
    """Complete IoU: distance IoU − α·v, v = 4/π²·(arctan(w′/h′) − arctan(w/h))², α = v / (1 − IoU + v).

    No gradient goes through α, which only weighs. Source: Zheng et al. 2020, equations 8, 9 and 11.
    """
    shape = 4 / math.pi**2 * (_angle(others) - _angle(boxes)) ** 2
    with torch.no_grad():
        weight = shape / (1 - iou(boxes, others) + shape).clamp(min=TINY)
    return diou(boxes, others) - weight * shape


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = WHOLE) -> Tensor:
    """The offsets … × 4 that lead from anchors to boxes: what `decode` takes back.

    x = (bₓ − aₓ)/a_w, y likewise, of the centres; w = ln(b_w/a_w), h likewise. Each is multiplied by its weight.
    Source: Girshick et al. 2014, appendix C, equations 6 to 9.
    """
    x, y, width, height = _centred(anchors)
    to_x, to_y, to_width, to_height = _centred(boxes)
    offsets = (to_x - x) / width, (to_y - y) / height, torch.log(to_width / width), torch.log(to_height / height)
    return torch.stack([offset * weight for offset, weight in zip(offsets, weights, strict=True)], -1)


def decode(
    offsets: Tensor, anchors: Tensor, weights: Sequence[float] = WHOLE, clip: float = math.log(1000 / 16)
) -> Tensor:
    """The boxes … × 4 that offsets … × 4 lead to from anchors.

    Source: Girshick et al. 2014, appendix C, equations 1 to 4.

    Args:
        clip: the logarithm of the most that a side grows by.
    """
    x, y, width, height = _centred(anchors)
    dx, dy, dw, dh = (offset / weight for offset, weight in zip(offsets.unbind(-1), weights, strict=True))
    x, y = x + dx * width, y + dy * height
    half_width, half_height = width * dw.clamp(max=clip).exp() / 2, height * dh.clamp(max=clip).exp() / 2
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), -1)


def _iou_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    shared = intersection(boxes, others)
    union = area(boxes) + area(others) - shared
    return shared / union.clamp(min=TINY), union


def _around(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest boxes around both."""
    width = torch.maximum(boxes[..., 2], others[..., 2]) - torch.minimum(boxes[..., 0], others[..., 0])
    height = torch.maximum(boxes[..., 3], others[..., 3]) - torch.minimum(boxes[..., 1], others[..., 1])
    return width.clamp(min=0), height.clamp(min=0)


def _angle(boxes: Tensor) -> Tensor:
    left, top, right, bottom = boxes.unbind(-1)
    return torch.atan((right - left).clamp(min=TINY) / (bottom - top).clamp(min=TINY))


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x and y, width and height; the sides of a box without area count as next to nothing."""
    left, top, right, bottom = boxes.unbind(-1)
    width, height = (right - left).clamp(min=TINY), (bottom - top).clamp(min=TINY)
    return (left + right) / 2, (top + bottom) / 2, width, height
