"""The loss of YOLO v1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.detection.boxes import iou
from compiler.detection.criterion import Criterion, Target
from compiler.detection.levels import first_served, sizes_of
from compiler.detection.matching import COVERED, Matches, Truth, covered
from compiler.lowering.grids import cell_boxes
from netspec import dims
from netspec.grid_choices import YoloV1
from netspec.heads import heads
from netspec.network import Network
from netspec.ops.grids import YoloGrid


class YoloV1Criterion(Criterion):
    """The sum of five sums of squared errors, by image. Source: Redmon et al. 2015, equation 3."""

    def __init__(self, network: Network, choice: YoloV1) -> None:
        super().__init__(network)
        self.choice = choice
        (head,) = heads(network, choice.head).values()
        assert isinstance(head["op"], YoloGrid)
        self.network, self.image = network, network.layer(head["inputs"][1])["output"].spatial
        self.grid, self.boxes, self.classes = head["op"].grid, head["op"].boxes, head["op"].classes

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        (raw,) = self.outputs(module, inputs).values()
        numbers = raw[..., : 5 * self.boxes].reshape(*raw.shape[:2], self.boxes, 5)  # N × S·S × B × 5
        sizes = sizes_of(self.network, inputs)
        size = raw.new_tensor([dims.evaluate(side, sizes) for side in reversed(self.image)])
        truth = Truth.of(targets)
        matches = self.match(truth, size)
        responsible, overlap = self.responsible(numbers, matches, size)
        images, cells = matches.positive.nonzero(as_tuple=True)
        own, labels = numbers[responsible], matches.labels[images, cells]
        corners = matches.boxes[images, cells].reshape(-1, 2, 2) / size
        centre = (corners.mean(1) * self.grid - self.places(raw)[cells]).clamp(0, 1)
        extent = corners[:, 1] - corners[:, 0]
        position = (own[:, :2] - centre).square().sum() + (own[:, 2:4] - extent.sqrt()).square().sum()
        boxes = cell_boxes(numbers.detach(), self.places(raw)[:, None], self.grid, size)
        background = ~responsible & ~covered(boxes.flatten(1, 2), truth, COVERED).view_as(responsible)
        classes = functional.one_hot(labels, self.classes)
        losses = {
            "boxes": self.choice.coordinates * position,
            "objects": (own[:, 4] - overlap).square().sum(),
            "background": self.choice.no_object * numbers[..., 4][background].square().sum(),
            "classes": (raw[images, cells, 5 * self.boxes :] - classes).square().sum(),
        }
        return {name: loss / len(raw) for name, loss in losses.items()}

    def match(self, truth: Truth, size: Tensor) -> Matches:
        """The object that each of N × S·S cells has the centre of."""
        centres = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
        column, row = (centres * self.grid / size).long().clamp(0, self.grid - 1).unbind(-1)
        cells = (row * self.grid + column)[..., None]
        return first_served(
            truth, cells, torch.ones_like(cells, dtype=torch.bool), truth.wanted[..., None], self.grid**2
        )

    @torch.no_grad()
    def responsible(self, numbers: Tensor, matches: Matches, size: Tensor) -> tuple[Tensor, Tensor]:
        """Of each cell with an object the box that overlaps it most: N × S·S × B bool, and the IoUs in that order."""
        boxes = cell_boxes(numbers, self.places(numbers)[:, None], self.grid, size)
        most, best = iou(boxes, matches.boxes[:, :, None]).max(2)
        chosen = functional.one_hot(best, self.boxes).bool() & matches.positive[..., None]
        return chosen, most[matches.positive]

    def places(self, like: Tensor) -> Tensor:
        """Column and row of each cell, S·S × 2."""
        cells = torch.arange(self.grid, device=like.device, dtype=like.dtype)
        return torch.cartesian_prod(cells, cells).flip(1)
