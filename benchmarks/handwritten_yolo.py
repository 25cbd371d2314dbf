"""YOLO v3 and its losses in plain PyTorch, as one would write them by hand: what ours are measured against.

The parameters stand in the order of the spec's, so that weights can be handed over one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
STRIDES = (8, 16, 32)


def unit(incoming: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, width, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1, inplace=True),
    )


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = unit(width, width // 2, 1)
        self.conv2 = unit(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


def stage(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(unit(width // 2, width, stride=2), *(Block(width) for _ in range(depth)))


def five(incoming: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        unit(incoming, width, 1),
        unit(width, 2 * width),
        unit(2 * width, width, 1),
        unit(width, 2 * width),
        unit(2 * width, width, 1),
    )


def predict(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(unit(width, 2 * width), nn.Conv2d(2 * width, 3 * (5 + classes), 1))


class YoloV3(nn.Module):
    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.stem = unit(3, 32)
        self.stage1, self.stage2, self.stage3 = stage(64, 1), stage(128, 2), stage(256, 8)
        self.stage4, self.stage5 = stage(512, 8), stage(1024, 4)
        self.five5 = five(1024, 512)
        self.reduce4, self.five4 = unit(512, 256, 1), five(256 + 512, 256)
        self.reduce3, self.five3 = unit(256, 128, 1), five(128 + 256, 128)
        self.predict3, self.predict4, self.predict5 = (predict(width, classes) for width in (128, 256, 512))

    def forward(self, x: Tensor) -> list[Tensor]:
        c3 = self.stage3(self.stage2(self.stage1(self.stem(x))))
        c4 = self.stage4(c3)
        p5 = self.five5(self.stage5(c4))
        p4 = self.five4(torch.cat([functional.interpolate(self.reduce4(p5), scale_factor=2), c4], 1))
        p3 = self.five3(torch.cat([functional.interpolate(self.reduce3(p4), scale_factor=2), c3], 1))
        return [self.predict3(p3), self.predict4(p4), self.predict5(p5)]


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of n × 4 boxes with m × 4 others."""
    sides = torch.minimum(boxes[:, None, 2:], others[:, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(2)
    areas, other_areas = (b[:, 2:].sub(b[:, :2]).prod(1) for b in (boxes, others))
    return shared / (areas[:, None] + other_areas - shared)


def priors_of(level: int, height: int, width: int) -> Tensor:
    """The priors in all cells of a level, 3 × h × w × 4."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres = torch.stack([x, y], 2) * STRIDES[level]
    half = torch.tensor(ANCHORS[level])[:, None, None] / 2
    return torch.cat([centres - half, centres + half], 3)


def yolov3_loss(maps: list[Tensor], targets: list[tuple[Tensor, Tensor]], ignore: float = 0.5) -> Tensor:
    """The sum of the losses of boxes, objectness and classes, by image; `targets` are boxes and labels of each."""
    shapes = torch.tensor([anchor for level in ANCHORS for anchor in level])
    sizes = [tuple(found.shape[2:]) for found in maps]
    numbers = [found.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2) for found in maps]
    priors = [priors_of(level, *size) for level, size in enumerate(sizes)]
    total = maps[0].new_zeros(())
    for image, (boxes, labels) in enumerate(targets):
        background = [(overlaps(p.flatten(0, 2), boxes) <= ignore).all(1).view(p.shape[:3]) for p in priors]
        extents = boxes[:, 2:] - boxes[:, :2]
        shared = torch.minimum(extents[:, None], shapes).prod(2)
        best = (shared / (extents.prod(1)[:, None] + shapes.prod(1) - shared)).argmax(1)
        for box, extent, label, prior in zip(boxes, extents, labels, best.tolist(), strict=True):
            level, anchor = divmod(prior, 3)
            centre = (box[:2] + box[2:]) / 2 / STRIDES[level]
            column, row = centre.long().tolist()
            own = numbers[level][image, anchor, row, column]
            background[level][anchor, row, column] = False
            total = total + functional.binary_cross_entropy_with_logits(
                own[:2], centre - centre.floor(), reduction="sum"
            )
            total = total + (own[2:4] - (extent / shapes[prior]).log()).square().sum() / 2
            total = total + functional.softplus(-own[4])
            wanted = functional.one_hot(label, own.shape[0] - 5).float()
            total = total + functional.binary_cross_entropy_with_logits(own[5:], wanted, reduction="sum")
        for found, empty in zip(numbers, background, strict=True):
            total = total + functional.softplus(found[image, ..., 4][empty]).sum()
    return total / len(targets)
