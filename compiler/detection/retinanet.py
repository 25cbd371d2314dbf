"""The loss of RetinaNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.detection.boxes import decode, giou
from compiler.detection.criterion import Criterion, Target
from compiler.detection.losses import focal_loss, offset_loss
from compiler.detection.matching import Matches, Truth, match
from netspec.detection_choices import RetinaNet
from netspec.network import Network


class RetinaNetCriterion(Criterion):
    """Focal loss of all boxes that are positive or negative, and the offsets of the positive ones.

    The sums are divided by the positive boxes of the batch. Source: Lin et al. 2017, "Focal loss for dense object
    detection", section 4.
    """

    def __init__(self, network: Network, choice: RetinaNet) -> None:
        super().__init__(network)
        self.choice = choice

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        given, choice = self.outputs(module, inputs), self.choice
        scores, anchors = given["scores"], given["anchors"]
        matches = match(anchors, Truth.of(targets), choice.positive, choice.negative, low_quality=choice.low_quality)
        wanted = torch.zeros_like(scores, dtype=torch.bool)
        images, boxes = matches.positive.nonzero(as_tuple=True)
        wanted[images, boxes, matches.labels[images, boxes]] = True
        trained = matches.positive | matches.negative
        errors = focal_loss(scores, wanted, choice.alpha, choice.gamma).sum(2)
        count = matches.positive.sum().clamp(min=1)
        distance = self._distance(given["deltas"], anchors, matches)
        return {"classes": errors[trained].sum() / count, "boxes": choice.balance * distance / count}

    def _distance(self, deltas: Tensor, anchors: Tensor, matches: Matches) -> Tensor:
        choice, chosen = self.choice, matches.positive
        if choice.boxes == "smooth_l1":
            return offset_loss(deltas, anchors, matches, choice.offset_weights, choice.beta)
        found = decode(deltas[chosen], anchors[chosen], choice.offset_weights)
        return (1 - giou(found, matches.boxes[chosen])).sum()
