"""The losses of detectors that look at regions: Fast R-CNN and Faster R-CNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.detection.criterion import Criterion, Target
from compiler.detection.losses import at, offset_loss
from compiler.detection.matching import Matches, Truth, match
from compiler.detection.sampling import balanced
from compiler.module import submodule
from netspec.detection_choices import FasterRcnn, FastRcnn, RegionLoss
from netspec.network import Network

UNTRAINED = -100  # the class of a region that is not trained, which `cross_entropy` leaves out


def sampled(proposals: Tensor, truth: Truth, choice: RegionLoss) -> tuple[Tensor, Matches]:
    """Regions to be trained, N × S × 4, and what they are to find.

    The objects themselves are among what the regions are drawn from, so that there are positive ones from the start.

    Args:
        proposals: N × P × 4; those without area are padding.
    """
    objects = truth.boxes.where(truth.wanted[..., None], 0)
    proposals = torch.cat((proposals.detach(), objects.to(proposals.dtype)), 1)
    matches = match(proposals, truth, choice.iou, choice.iou, choice.least)
    indices, chosen = balanced(matches, choice.samples, choice.share)
    return at(proposals, indices), chosen


def region_losses(given: dict[str, Tensor], regions: Tensor, matches: Matches, choice: RegionLoss) -> dict[str, Tensor]:
    """The multi-task loss, the mean over all regions that are trained. Source: Girshick 2015, equations 1 to 3.

    Args:
        given: `class_scores` N × S × columns and `box_deltas` N × S × 4·columns, column 0 being the background's.
    """
    trained = matches.positive | matches.negative
    wanted = (matches.labels + 1).where(matches.positive, 0).where(trained, UNTRAINED)
    count = trained.sum().clamp(min=1)
    scores, deltas = given["class_scores"], given["box_deltas"].reshape(*regions.shape[:2], -1, 4)
    errors = functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=UNTRAINED, reduction="sum")
    own = wanted.clamp(min=0)[..., None, None].expand(-1, -1, 1, 4)
    offsets = offset_loss(deltas.gather(2, own)[:, :, 0], regions, matches, choice.offset_weights, choice.beta)
    return {"classes": errors / count, "boxes": choice.balance * offsets / count}


class FastRcnnCriterion(Criterion):
    """The loss of a net that is given its proposals: samples of them are what it sees in training."""

    def __init__(self, network: Network, choice: FastRcnn) -> None:
        super().__init__(network)
        self.choice = choice
        self.place = network.inputs.index("proposals")

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        regions, matches = sampled(inputs[self.place], Truth.of(targets), self.choice)
        given = self.outputs(module, (*inputs[: self.place], regions, *inputs[self.place + 1 :]))
        return region_losses(given, regions, matches, self.choice)


class FasterRcnnCriterion(Criterion):
    """The loss of a region proposal network and of the head that looks at samples of its proposals, in one pass."""

    def __init__(self, network: Network, choice: FasterRcnn) -> None:
        super().__init__(network)
        self.choice = choice
        (self.proposals,) = (
            layer["module"] for _, layer in network.layers() if layer["op"] and layer["op"].kind == "proposals"
        )

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        truth = Truth.of(targets)
        drawn: list[tuple[Tensor, Matches]] = []

        def sample(layer: nn.Module, read: tuple[Any, ...], proposals: Tensor) -> Tensor:
            drawn.append(sampled(proposals, truth, self.choice))
            return drawn[-1][0]

        hook = submodule(module, self.proposals).register_forward_hook(sample)
        try:
            given = self.outputs(module, inputs)
        finally:
            hook.remove()
        ((regions, matches),) = drawn
        first = self._proposal_losses(given, truth, inputs[0].shape[-2:])
        return {**first, **region_losses(given, regions, matches, self.choice)}

    def _proposal_losses(self, given: dict[str, Tensor], truth: Truth, size: torch.Size) -> dict[str, Tensor]:
        """The mean over the sampled anchors. Source: Ren et al. 2015, equation 1."""
        choice, anchors = self.choice, given["anchors"]
        usable = anchors if choice.cross_boundary else anchors.where(_inside(anchors, size), 0)
        matches = match(usable, truth, choice.rpn_positive, choice.rpn_negative, low_quality=True)
        indices, chosen = balanced(matches, choice.rpn_samples, choice.rpn_share)
        trained = chosen.positive | chosen.negative
        count = trained.sum().clamp(min=1)
        marks, wanted = at(given["objectness"], indices)[trained], chosen.positive[trained]
        if marks.shape[-1] == 1:
            errors = functional.binary_cross_entropy_with_logits(marks[:, 0], wanted.to(marks.dtype), reduction="sum")
        else:
            errors = functional.cross_entropy(marks, wanted.long(), reduction="sum")
        deltas, sources = at(given["deltas"], indices), at(anchors, indices)
        offsets = offset_loss(deltas, sources, chosen, choice.rpn_offset_weights, choice.rpn_beta)
        return {"objectness": errors / count, "rpn_boxes": choice.rpn_balance * offsets / count}


def _inside(boxes: Tensor, size: torch.Size) -> Tensor:
    """Which boxes N × B lie within an image of this height and width, N × B × 1."""
    left, top, right, bottom = boxes.unbind(-1)
    return ((left >= 0) & (top >= 0) & (right <= size[1]) & (bottom <= size[0]))[..., None]
