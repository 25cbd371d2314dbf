"""Predicted classes of pixels beside the true ones: counts, and the measures that are made of them.

Source: Everingham et al. 2010, "The Pascal visual object classes challenge", section 4.4; Long et al. 2015, section 5.
"""

from __future__ import annotations

import torch
from torch import Tensor


def confusion(predicted: Tensor, truth: Tensor, classes: int, ignore: int = 255) -> Tensor:
    """How many pixels of each class were taken for each: classes × classes int64, a row for each true class.

    Args:
        predicted, truth: class numbers, of one shape. Those where the truth is `ignore` are not counted.

    Raises:
        ValueError: the shapes differ, or a number that counts is none of the classes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions are {tuple(predicted.shape)}, the truth is {tuple(truth.shape)}")
    counted = truth != ignore
    true, found = truth[counted].long(), predicted[counted].long()
    for numbers in (true, found):
        if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < classes:
            raise ValueError(f"class numbers run from 0 to {classes - 1}, and {int(numbers.max())} is among them")
    return torch.bincount(true * classes + found, minlength=classes**2).reshape(classes, classes)


def iou(counts: Tensor) -> Tensor:
    """The intersection over the union of each class, float64; NaN for one that is neither there nor predicted.

    Args:
        counts: a confusion matrix, or the sum of several.
    """
    both = counts.diagonal().double()
    return both / (counts.sum(0) + counts.sum(1) - counts.diagonal())


def mean_iou(counts: Tensor) -> float:
    """The mean of `iou` over the classes that are there or predicted; NaN where no pixel was counted."""
    return float(iou(counts).nanmean())


def pixel_accuracy(counts: Tensor) -> float:
    """The share of the counted pixels whose class is right; NaN where there are none."""
    return float(counts.diagonal().sum() / counts.sum())
