"""The cross-entropy of class scores, one row of them for each sample or a map of them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

SAMPLES = 2  # the rank of scores N × C; those of a map have more
NONE = -100  # no class has this number


class CrossEntropy(nn.Module):
    """−log softmax(y)ₜ, the mean over the samples, or over the pixels whose class is not `ignore`; 0 where all are.

    In: scores N × C and classes N, or scores N × C × spatial and classes N × spatial. Out: one number.
    Source: Goodfellow et al. 2016, section 6.2.2.3; Szegedy et al. 2016, section 7, for the label smoothing.
    """

    def __init__(self, label_smoothing: float = 0.0, ignore: int = 255) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.ignore = ignore

    def forward(self, scores: Tensor, classes: Tensor) -> Tensor:
        ignore = NONE if scores.ndim == SAMPLES else self.ignore
        summed = functional.cross_entropy(
            scores, classes, ignore_index=ignore, reduction="sum", label_smoothing=self.label_smoothing
        )
        return summed / (classes != ignore).sum().clamp(min=1)
