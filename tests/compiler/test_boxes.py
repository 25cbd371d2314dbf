"""Overlaps and offsets of boxes, against numbers worked by hand and the properties that their papers state."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from compiler.detection.boxes import area, ciou, decode, diou, encode, giou, iou, pairwise

OVERLAPS = [iou, giou, diou, ciou]

# a is 4 × 4 = 16, b is 4 × 2 = 8; they share [2, 4] × [1, 3], 2 × 2 = 4, so the union is 16 + 8 − 4 = 20.
# Around both is [0, 6] × [0, 4] = 24, its diagonal squared 36 + 16 = 52.
# The centres are (2, 2) and (4, 2), 4 apart when squared.
A = torch.tensor([0.0, 0.0, 4.0, 4.0])
B = torch.tensor([2.0, 1.0, 6.0, 3.0])
IOU = 4 / 20
V = 4 / math.pi**2 * (math.atan(4 / 2) - math.atan(4 / 4)) ** 2


def random_boxes(count: int, seed: int) -> Tensor:
    corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:] + 1), 1)


@pytest.mark.parametrize(
    "overlap, expected",
    [
        (iou, IOU),
        (giou, IOU - (24 - 20) / 24),
        (diou, IOU - 4 / 52),
        (ciou, IOU - 4 / 52 - V / (1 - IOU + V) * V),
    ],
)
def test_overlaps_are_what_the_formulas_give_by_hand(
    overlap: Callable[[Tensor, Tensor], Tensor], expected: float
) -> None:
    assert area(A) == 16
    assert area(B) == 8
    assert overlap(A, B).item() == pytest.approx(expected, abs=1e-6)
    assert overlap(B, A).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_box_overlaps_itself_wholly_whatever_its_scale(overlap: Callable[[Tensor, Tensor], Tensor]) -> None:
    boxes = torch.cat([random_boxes(50, 0) * scale for scale in (1e-2, 1, 100)])
    torch.testing.assert_close(overlap(boxes, boxes), torch.ones(150))
    others = torch.cat([random_boxes(50, 1) * scale for scale in (1e-2, 1, 100)])
    first, second, third = overlap(boxes, others).split(50)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second, third, atol=1e-5, rtol=1e-4)


def test_boxes_that_are_apart_are_told_by_how_far() -> None:
    """Rezatofighi et al. 2019, section 3: the IoU of all these is 0, the generalised one falls towards −1."""
    far = torch.tensor([[10.0, 0.0, 14.0, 4.0], [100.0, 0.0, 104.0, 4.0], [1e6, 0.0, 1e6 + 4, 4.0]])
    assert iou(A, far).tolist() == [0, 0, 0]
    # Around both: 14 × 4 = 56 of which 32 are covered, 104 × 4 = 416, …
    torch.testing.assert_close(giou(A, far), torch.tensor([-24 / 56, -(416 - 32) / 416, -1.0]), atol=1e-4, rtol=0)


def test_a_matrix_has_every_pair_of_every_image() -> None:
    boxes, others = random_boxes(6, 2).view(2, 3, 4), random_boxes(8, 3).view(2, 4, 4)
    matrix = pairwise(ciou, boxes, others)
    assert matrix.shape == (2, 3, 4)
    for image in range(2):
        for i in range(3):
            for j in range(4):
                torch.testing.assert_close(matrix[image, i, j], ciou(boxes[image, i], others[image, j]))
    assert pairwise(iou, boxes, others[:, :0]).shape == (2, 3, 0)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize(
    "box",
    [[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 5.0, 1.0], [5.0, 5.0, 1.0, 1.0]],
    ids=["a point", "padding", "a line", "upside down"],
)
def test_a_box_without_area_overlaps_nothing_and_gradients_stay_finite(
    overlap: Callable[[Tensor, Tensor], Tensor], box: list[float]
) -> None:
    for other in (A, torch.tensor(box), torch.zeros(4)):
        given = torch.tensor(box, requires_grad=True)
        assert area(given).item() == 0
        assert iou(given, other).item() == 0
        value = overlap(given, other)
        value.backward()
        assert value.isfinite()
        assert given.grad is not None
        assert given.grad.isfinite().all()


def test_complete_iou_holds_its_weight_fixed() -> None:
    """Beyond that of distance IoU, the gradient is that of v times α."""
    box = B.clone().requires_grad_()
    (ciou(box, A) - diou(box, A)).backward()
    width, height = 4.0, 2.0
    alpha = V / (1 - IOU + V)
    # dv/dw = −8/π²·(arctan(w′/h′) − arctan(w/h))·h/(w² + h²); the right edge moves the width by 1.
    slope = -8 / math.pi**2 * (math.atan(1) - math.atan(2)) * height / (width**2 + height**2)
    assert box.grad is not None
    assert box.grad[2].item() == pytest.approx(-alpha * slope, abs=1e-6)


def test_offsets_by_hand() -> None:
    # The anchor's centre is (20, 20), 20 × 40; the box's (25, 30), 40 × 40:
    # (25 − 20)/20 = 1/4, (30 − 20)/40 = 1/4, ln(40/20), ln(40/40).
    anchor, box = torch.tensor([10.0, 0.0, 30.0, 40.0]), torch.tensor([5.0, 10.0, 45.0, 50.0])
    torch.testing.assert_close(encode(box, anchor), torch.tensor([0.25, 0.25, math.log(2), 0.0]))
    weighted = torch.tensor([2.5, 2.5, 5 * math.log(2), 0.0])
    torch.testing.assert_close(encode(box, anchor, (10, 10, 5, 5)), weighted)
    torch.testing.assert_close(decode(weighted, anchor, (10, 10, 5, 5)), box)


def test_offsets_lead_back_to_the_boxes() -> None:
    boxes, anchors = random_boxes(100, 4), random_boxes(100, 5)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-3, rtol=1e-4)
    huge = decode(torch.tensor([0.0, 0.0, 50.0, 1.0]), A)
    assert (huge[2] - huge[0]).item() == pytest.approx(4 * 1000 / 16)


def test_offsets_of_padding_are_numbers() -> None:
    nothing = torch.zeros(4)
    for box, anchor in ((A, nothing), (nothing, A), (nothing, nothing)):
        assert encode(box, anchor).isfinite().all()
