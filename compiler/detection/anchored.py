"""The losses of YOLO v2 and v3, whose boxes start from priors."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.detection.boxes import TINY, ciou, giou, iou
from compiler.detection.criterion import Criterion, Target
from compiler.detection.levels import Grid, Level, first_served, sizes_of
from compiler.detection.matching import Matches, Truth, near
from compiler.lowering.grids import anchored_boxes
from netspec.grid_choices import YoloV2, YoloV3
from netspec.heads import heads
from netspec.network import Network
from netspec.ops.grids import Yolo


class AnchoredCriterion(Criterion):
    """What both have in common: the assignment, and the error of boxes. All sums are divided by the batch."""

    choice: YoloV2 | YoloV3

    def __init__(self, network: Network, choice: YoloV2 | YoloV3) -> None:
        super().__init__(network)
        self.network = network
        self.choice = choice
        self.levels = []
        for head in heads(network, choice.head).values():
            op = head["op"]
            assert isinstance(op, Yolo)
            self.classes = op.classes
            self.levels.append(Level(op.stride, op.anchors, network.layer(head["inputs"][0])["output"].spatial))

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        raw = torch.cat(tuple(self.outputs(module, inputs).values()), 1)
        grid = Grid.of(self.levels, sizes_of(self.network, inputs), inputs[0].device)
        matches = self.match(raw, grid, Truth.of(targets))
        images, found = matches.positive.nonzero(as_tuple=True)
        own, wanted, labels = raw[images, found], matches.boxes[images, found], matches.labels[images, found]
        places, anchors, strides = grid.places[found], grid.anchors[found], grid.strides[found]
        boxes = anchored_boxes(own, places, anchors, strides)
        if self.choice.boxes == "squared":
            position = self.position(own, _numbers(wanted, places, anchors, strides))
        else:
            position = (1 - {"giou": giou, "ciou": ciou}[self.choice.boxes](boxes, wanted)).sum()
        losses = {
            "boxes": self.choice.coordinates * position,
            "objects": self.choice.object * self.objects(own[:, 4], iou(boxes, wanted).detach()),
            "background": self.choice.no_object * self.background(raw[..., 4][matches.negative]),
            "classes": self.choice.classes * self.classification(own[:, 5:], labels),
        }
        return {name: loss / len(raw) for name, loss in losses.items()}

    @torch.no_grad()
    def match(self, raw: Tensor, grid: Grid, truth: Truth) -> Matches:
        """Which of N × B boxes is to find which object, and which are to find none."""
        choices, best, further = _choices(grid, truth, self.also())
        matches = first_served(truth, choices, best, further & truth.wanted[..., None], raw.shape[1])
        if self.by_box():
            compared = anchored_boxes(raw, grid.places, grid.anchors, grid.strides)
        else:
            centres, half = (grid.places + 0.5) * grid.strides, grid.anchors / 2
            compared = torch.cat((centres - half, centres + half), 1).expand(len(raw), -1, -1)
        negative = matches.negative & ~near(compared, truth, self.choice.ignore)
        return Matches(truth, matches.objects, matches.positive, negative)

    def also(self) -> float:
        """The overlap of shapes from which on a prior that is not the best finds an object too."""
        return 1.0

    def by_box(self) -> bool:
        """Whether it is boxes, not their priors, that are left out where they overlap an object."""
        return True

    @abstractmethod
    def position(self, numbers: Tensor, wanted: Tensor) -> Tensor:
        """The error of σ(tx), σ(ty), tw and th of P boxes."""

    @abstractmethod
    def objects(self, logits: Tensor, overlaps: Tensor) -> Tensor:
        """The error of the objectness of P boxes that overlap their objects so much."""

    @abstractmethod
    def background(self, logits: Tensor) -> Tensor:
        """The error of the objectness of boxes that are to have none."""

    @abstractmethod
    def classification(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The error of the classes P × C."""


class YoloV2Criterion(AnchoredCriterion):
    """Half the squared errors, and softmax loss. Source: Redmon & Farhadi 2016, section 2."""

    choice: YoloV2

    def position(self, numbers: Tensor, wanted: Tensor) -> Tensor:
        found = torch.cat((numbers[:, :2].sigmoid(), numbers[:, 2:4]), 1)
        return (found - wanted).square().sum() / 2

    def objects(self, logits: Tensor, overlaps: Tensor) -> Tensor:
        if self.choice.objectness == "logistic":
            return functional.binary_cross_entropy_with_logits(logits, overlaps, reduction="sum")
        return (logits.sigmoid() - overlaps).square().sum() / 2

    def background(self, logits: Tensor) -> Tensor:
        return self.objects(logits, torch.zeros_like(logits))

    def classification(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="sum")


class YoloV3Criterion(AnchoredCriterion):
    """Errors whose gradients are the numbers that are given less those that are wanted.

    For w and h that is half the squared error, for what goes through a σ the logistic loss. Source: Redmon & Farhadi
    2018, section 2.1.
    """

    choice: YoloV3

    def also(self) -> float:
        return self.choice.also

    def by_box(self) -> bool:
        return self.choice.ignore_by == "box"

    def position(self, numbers: Tensor, wanted: Tensor) -> Tensor:
        centres = functional.binary_cross_entropy_with_logits(numbers[:, :2], wanted[:, :2], reduction="sum")
        return centres + (numbers[:, 2:4] - wanted[:, 2:]).square().sum() / 2

    def objects(self, logits: Tensor, overlaps: Tensor) -> Tensor:
        return functional.softplus(-logits).sum()

    def background(self, logits: Tensor) -> Tensor:
        return functional.softplus(logits).sum()

    def classification(self, logits: Tensor, labels: Tensor) -> Tensor:
        wanted = functional.one_hot(labels, self.classes).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")


def _numbers(boxes: Tensor, places: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """The σ(tx), σ(ty), tw, th, P × 4, that make boxes of priors; centres beyond their cell count as on its border."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    within = (centres / strides - places).clamp(0, 1)
    return torch.cat((within, (sizes / anchors).clamp(min=TINY).log()), 1)


def _choices(grid: Grid, truth: Truth, also: float) -> tuple[Tensor, Tensor, Tensor]:
    """For every object and every prior of all levels, N × M × A: the box in the cell of the object's centre.

    Returns:
        The boxes' numbers; whether it is the prior whose shape fits best; whether it is, or fits by more than `also`.
    """
    device = truth.boxes.device
    priors = torch.tensor([anchor for level, _, _ in grid.levels for anchor in level.anchors], device=device)
    sizes = (truth.boxes[..., 2:] - truth.boxes[..., :2]).clamp(min=0)
    shared = torch.minimum(sizes[..., None, :], priors).prod(-1)
    fits = shared / (sizes.prod(-1)[..., None] + priors.prod(-1) - shared)
    best = functional.one_hot(fits.argmax(-1), len(priors)).bool()
    centres = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    numbers, first = [], 0
    for level, height, width in grid.levels:
        column, row = (centres / level.stride).long().unbind(-1)
        cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        count = len(level.anchors)
        numbers.append(first + cell[..., None] * count + torch.arange(count, device=device))
        first += height * width * count
    return torch.cat(numbers, -1), best, best | (fits > also)
