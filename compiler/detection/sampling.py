"""Which boxes are trained, of the many that could be."""

from __future__ import annotations

import torch
from torch import Tensor

from compiler.detection.matching import Matches


@torch.no_grad()
def balanced(matches: Matches, count: int, share: float) -> tuple[Tensor, Matches]:
    """Draws boxes of each image: of the positive ones at most a share, and negative ones to fill up.

    Source: Ren et al. 2015, section 3.1.3; Girshick 2015, section 2.3, "Mini-batch sampling".

    Returns:
        The numbers of the boxes, N × S with S = min(count, B), and what they are to find. Where there are not enough,
        the last of them are neither positive nor negative.
    """
    positives, are_positive = _drawn(matches.positive, int(count * share))
    negatives, are_negative = _drawn(matches.negative, count)
    rank = torch.cat((2 * are_positive.byte(), are_negative.byte()), 1)
    rank, order = rank.sort(dim=1, descending=True, stable=True)
    size = min(count, matches.positive.shape[1])
    rank, order = rank[:, :size], order[:, :size]
    indices = torch.cat((positives, negatives), 1).gather(1, order)
    chosen = matches.at(indices)
    return indices, Matches(matches.truth, chosen.objects, rank == 2, rank == 1)


@torch.no_grad()
def hardest(losses: Tensor, matches: Matches, ratio: float) -> Tensor:
    """The negative boxes with the highest losses, at most `ratio` for each positive one of their image.

    Source: Liu et al. 2016, section 2.2, "Hard negative mining".

    Args:
        losses: N × B.

    Returns:
        N × B bool.
    """
    order = losses.masked_fill(~matches.negative, -torch.inf).argsort(1, descending=True)
    most = (matches.positive.sum(1, keepdim=True) * ratio).long()
    first = torch.arange(losses.shape[1], device=losses.device) < most
    return torch.zeros_like(matches.negative).scatter(1, order, first) & matches.negative


def _drawn(chosen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Up to `count` of those that may be chosen, by number, in random order; and which of the numbers are such."""
    keys = torch.rand(chosen.shape, device=chosen.device).masked_fill_(~chosen, -1)
    best, indices = keys.topk(min(count, keys.shape[1]), 1)
    return indices, best >= 0
