"""The loss of detectors without anchors, whose assignment follows what they find."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.detection.boxes import TINY, ciou, giou, iou, pairwise
from compiler.detection.criterion import Criterion, Target
from compiler.detection.levels import Grid, Level, sizes_of
from compiler.detection.matching import Matches, Truth, portions
from compiler.lowering.grids import distance_boxes
from netspec.grid_choices import AnchorFree
from netspec.heads import heads
from netspec.network import Network
from netspec.ops.grids import Distances

NOWHERE = -torch.inf  # the logarithm of the alignment of a place that may not find an object


class AnchorFreeCriterion(Criterion):
    """Classes, boxes and distances, divided by the sum of what the scores are to be. Source: Feng et al. 2021."""

    def __init__(self, network: Network, choice: AnchorFree) -> None:
        super().__init__(network)
        self.network = network
        self.choice = choice
        self.heads = heads(network, choice.head)
        self.levels = []
        for head in self.heads.values():
            op = head["op"]
            assert isinstance(op, Distances)
            self.bins = op.bins
            self.levels.append(Level(op.stride, ((0.0, 0.0),), network.layer(head["inputs"][0])["output"].spatial))

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        given, choice = self.outputs(module, inputs), self.choice
        scores, numbers = given["scores"], torch.cat([given[name] for name in self.heads], 1)
        numbers = numbers.reshape(*numbers.shape[:2], 4, self.bins)
        grid = Grid.of(self.levels, sizes_of(self.network, inputs), inputs[0].device)
        boxes = distance_boxes(numbers, grid.places, grid.strides)
        matches, aligned = align(scores.detach(), boxes.detach(), grid, Truth.of(targets), choice)
        images, found = matches.positive.nonzero(as_tuple=True)
        share, wanted = aligned[images, found], matches.boxes[images, found]
        soft = torch.zeros_like(scores)
        soft[images, found, matches.labels[images, found]] = share
        trained = (matches.positive | matches.negative)[..., None]
        overlap = {"giou": giou, "ciou": ciou}[choice.boxes](boxes[images, found], wanted)
        errors = side_errors(numbers[images, found], _sides(wanted, grid.places[found], grid.strides[found]))
        count = share.sum().clamp(min=1)
        return {
            "classes": (quality_focal_loss(scores, soft, choice.gamma) * trained).sum() / count,
            "boxes": choice.balance * ((1 - overlap) * share).sum() / count,
            "sides": choice.sides * (errors.mean(1) * share).sum() / count,
        }


@torch.no_grad()
def align(scores: Tensor, boxes: Tensor, grid: Grid, truth: Truth, choice: AnchorFree) -> tuple[Matches, Tensor]:
    """Gives every object the places that find it best already. Source: Feng et al. 2021, section 3.2.

    A place may find an object that its centre is in. An object in which there is no centre may be found by the nearest
    place. Of several objects that a place is positive for, it has the one that its box overlaps most. Places within an
    ignored object are not background.

    Args:
        scores: N × B × C logits.
        boxes: N × B × 4.

    Returns:
        The matches, and the normalised alignment, N × B: that of an object's best place is the greatest IoU of its
        places.
    """
    parts = [
        _align(scores[images], boxes[images], grid, truth.of_images(images), choice)
        for images in portions(boxes, truth)
    ]
    objects, positive, negative, shares = (torch.cat(column) for column in zip(*parts, strict=True))
    return Matches(truth, objects, positive, negative), shares


def _align(scores: Tensor, boxes: Tensor, grid: Grid, truth: Truth, choice: AnchorFree) -> tuple[Tensor, ...]:
    """The same of some images, with the parts of the matches one by one."""
    overlaps = pairwise(iou, truth.boxes, boxes)
    columns = truth.labels[..., None].expand(-1, -1, scores.shape[1])
    chances = functional.logsigmoid(scores).mT.gather(1, columns)
    # As logarithms: the sixth power of a small IoU is nothing in float32.
    alignment = choice.alpha * chances + choice.beta * overlaps.clamp(min=TINY).log()
    inside, eligible = _within(grid, truth)
    alignment = alignment.where(eligible, NOWHERE)
    best, places = alignment.topk(min(choice.candidates, alignment.shape[2]), 2)
    chosen = torch.zeros_like(overlaps, dtype=torch.bool).scatter(2, places, best > NOWHERE)
    objects = overlaps.where(chosen, -1).argmax(1)
    chosen &= functional.one_hot(objects, overlaps.shape[1]).mT.bool()
    positive = chosen.any(1)
    alignment, overlaps = alignment.where(chosen, NOWHERE), overlaps.where(chosen, 0)
    parts = (alignment - alignment.amax(2, keepdim=True)).exp() * overlaps.amax(2, keepdim=True)
    negative = ~positive if truth.ignored is None else ~positive & ~(inside & truth.ignored[..., None]).any(1)
    return objects, positive, negative, parts.where(chosen, 0).sum(1)


def quality_focal_loss(logits: Tensor, wanted: Tensor, gamma: float) -> Tensor:
    """|y − σ|^γ·(−(1 − y)·ln(1 − σ) − y·ln σ) of every logit; y is in [0, 1].

    Source: Li et al. 2020, "Generalized focal loss", equation 2.
    """
    errors = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    # Of nothing, roots have no gradient.
    return (wanted - logits.sigmoid()).abs().clamp(min=TINY) ** gamma * errors if gamma else errors


def side_errors(numbers: Tensor, wanted: Tensor) -> Tensor:
    """How far sides are from where they are to be, P × 4: distribution focal loss, or the distance if it is one number.

    −((i + 1 − y)·ln Sᵢ + (y − i)·ln Sᵢ₊₁), S being the softmax over the bins, and i ≤ y ≤ i + 1. A distance beyond the
    last bin counts as that. Source: Li et al. 2020, "Generalized focal loss", equation 6.

    Args:
        numbers: P × 4 × bins.
        wanted: P × 4, in bins.
    """
    bins = numbers.shape[2]
    if bins == 1:
        return functional.smooth_l1_loss(numbers[..., 0], wanted, reduction="none")
    wanted = wanted.clamp(max=bins - 1)
    before = wanted.long().clamp(max=bins - 2)
    shares = numbers.log_softmax(2)
    low, high = (shares.gather(2, (before + step)[..., None])[..., 0] for step in (0, 1))
    return -((before + 1 - wanted) * low + (wanted - before) * high)


def _sides(boxes: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """How far the sides of boxes P × 4 are from the centres of their places, in strides: left, top, right, bottom."""
    boxes, centres = boxes / strides, places + 0.5
    return torch.cat((centres - boxes[:, :2], boxes[:, 2:] - centres), 1).clamp(min=0)


def _within(grid: Grid, truth: Truth) -> tuple[Tensor, Tensor]:
    """Which places have their centre in which objects, and which may find which of those that are wanted: N × M × B."""
    centres = ((grid.places + 0.5) * grid.strides)[None, None]
    left_top, right_bottom = truth.boxes[:, :, None, :2], truth.boxes[:, :, None, 2:]
    inside = ((centres > left_top) & (centres < right_bottom)).all(3)
    distance = (centres - (left_top + right_bottom) / 2).square().sum(3)
    nearest = functional.one_hot(distance.argmin(2), len(grid.places)).bool()
    return inside, (inside | (nearest & ~inside.any(2, keepdim=True))) & truth.wanted[..., None]
