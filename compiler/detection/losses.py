"""What several detectors' losses are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from compiler.detection.boxes import encode
from compiler.detection.matching import Matches


def offset_loss(deltas: Tensor, anchors: Tensor, matches: Matches, weights: Sequence[float], beta: float) -> Tensor:
    """Smooth L1 between the offsets that are given and those that lead to the objects: its sum over positive boxes.

    Below `beta` it is x²/(2·beta), from there on |x| − beta/2. Source: Girshick 2015, equations 2 and 3.

    Args:
        deltas, anchors: N × B × 4.
    """
    chosen = matches.positive
    wanted = encode(matches.boxes[chosen], anchors[chosen], weights)
    return functional.smooth_l1_loss(deltas[chosen], wanted, reduction="sum", beta=beta)


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float, gamma: float) -> Tensor:
    """−αₜ·(1 − pₜ)^γ·ln pₜ of every logit x: pₜ is σ(x) and αₜ is α where it is wanted, else both are 1 minus that.

    Source: Lin et al. 2017, "Focal loss for dense object detection", equation 5.

    Args:
        wanted: bool, of the shape of the logits.
    """
    towards = logits.where(wanted, -logits)
    missing = (gamma * functional.logsigmoid(-towards)).exp()  # 1 − σ(x) is σ(−x)
    weights = torch.full_like(logits, 1 - alpha).masked_fill_(wanted, alpha)
    return -weights * missing * functional.logsigmoid(towards)


def at(values: Tensor, indices: Tensor) -> Tensor:
    """The rows of N × B × k with the numbers N × S: N × S × k."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))
