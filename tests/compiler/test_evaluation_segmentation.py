"""The loss and the measures of segmentation, against numbers worked out by hand and PyTorch's own loss."""

from __future__ import annotations

import math

import pytest
import torch

from compiler.class_loss import CrossEntropy
from compiler.evaluation.segmentation import confusion, iou, mean_iou, pixel_accuracy

TRUTH = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 255], [2, 2, 255, 0]])
FOUND = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 1], [2, 1, 2, 0]])
# Of class 0 there are four pixels: three found, one taken for 1. Of 1 four: three found, one taken for 0. Of 2 two: one
# found, one taken for 1. The two pixels of 255 count nowhere.
COUNTS = torch.tensor([[3, 1, 0], [1, 3, 0], [0, 1, 1]])


def test_pixels_are_counted_by_true_and_predicted_class() -> None:
    assert torch.equal(confusion(FOUND, TRUTH, 3), COUNTS)


def test_measures_are_those_of_the_counts() -> None:
    """Intersection over union: 3/(4 + 4 − 3) = 3/5, 3/(5 + 4 − 3) = 3/6, 1/(1 + 2 − 1) = 1/2; right are 7 of 10."""
    assert iou(COUNTS).tolist() == pytest.approx([3 / 5, 1 / 2, 1 / 2])
    assert mean_iou(COUNTS) == pytest.approx((3 / 5 + 1 / 2 + 1 / 2) / 3)
    assert pixel_accuracy(COUNTS) == pytest.approx(7 / 10)


def test_counts_of_several_images_add_up() -> None:
    parts = sum(confusion(found, truth, 3) for found, truth in zip(FOUND, TRUTH, strict=True))
    assert torch.equal(torch.as_tensor(parts), COUNTS)


def test_a_class_that_is_nowhere_is_no_part_of_the_mean() -> None:
    counts = confusion(FOUND, TRUTH, 4)
    assert math.isnan(iou(counts)[3])
    assert mean_iou(counts) == pytest.approx(mean_iou(COUNTS))


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    """Two of three pixels of class 0 are found, and one is taken for 1, of which there is none: (2/3 + 0)/2."""
    assert mean_iou(confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), 2)) == pytest.approx(1 / 3)


def test_where_nothing_is_to_be_counted_nothing_is_claimed() -> None:
    counts = confusion(torch.zeros(2, 2), torch.full((2, 2), 255), 3)
    assert int(counts.sum()) == 0
    assert math.isnan(mean_iou(counts))
    assert math.isnan(pixel_accuracy(counts))


def test_another_number_may_be_ignored() -> None:
    assert int(confusion(FOUND, TRUTH.where(TRUTH != 255, 0), 3, ignore=0).sum()) == 6


@pytest.mark.parametrize("number", [3, -1, 254])
def test_numbers_that_are_no_classes_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        confusion(FOUND, TRUTH.where(TRUTH != 1, number), 3)
    with pytest.raises(ValueError, match="predictions are"):
        confusion(FOUND[:2], TRUTH, 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_map_is_pytorchs_over_the_pixels_that_count(smoothing: float) -> None:
    scores = torch.randn(2, 4, 5, 6)
    classes = torch.randint(0, 4, (2, 5, 6))
    classes[0, :2] = 255
    rows, flat = scores.permute(0, 2, 3, 1).reshape(-1, 4), classes.reshape(-1)
    kept = flat != 255
    wanted = torch.nn.functional.cross_entropy(rows[kept], flat[kept], label_smoothing=smoothing)
    assert CrossEntropy(smoothing)(scores, classes) == pytest.approx(float(wanted), rel=1e-5)


def test_the_loss_by_hand() -> None:
    """Scores 0 and ln 3 are probabilities 1/4 and 3/4: −ln(3/4) where class 1 is true, −ln(1/4) where 0 is."""
    scores = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    loss = CrossEntropy()(scores, torch.tensor([[[1, 0, 255]]]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_a_batch_of_which_nothing_counts_has_no_loss_and_no_gradient() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = CrossEntropy()(scores, torch.full((1, 2, 2), 255))
    loss.backward()
    assert float(loss) == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_for_samples_255_is_a_class_like_any_other() -> None:
    scores = torch.randn(3, 300)
    classes = torch.tensor([255, 0, 299])
    assert float(CrossEntropy()(scores, classes)) == pytest.approx(
        float(torch.nn.functional.cross_entropy(scores, classes)), rel=1e-6
    )
