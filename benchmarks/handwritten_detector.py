"""Faster R-CNN with a feature pyramid and its losses in plain PyTorch, as one would write it by hand, image by image.

What PyTorch does not bring, suppression of boxes and pooling of regions, is the compiler's own: people take both from a
library, so a loop over boxes would only slow down what the compiled net is measured against.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.regions import RoiAlignLowering
from compiler.lowering.suppression import suppressed
from netspec.ops.regions import RoiAlign

SIZES = (32, 64, 128, 256, 512)
STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)


class Bottleneck(nn.Module):
    def __init__(self, incoming: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or incoming != 4 * width:
            shortcut = nn.Conv2d(incoming, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.relu(out)


class ResNet50(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        incoming = 64
        self.stages = nn.ModuleList()
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            blocks = []
            for index in range(depth):
                blocks.append(Bottleneck(incoming, width, stride if index == 0 else 1))
                incoming = 4 * width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(width, 256, 1) for width in (256, 512, 1024, 2048))
        self.outer = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1) for _ in range(4))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        inner = [conv(x) for conv, x in zip(self.inner, maps, strict=True)]
        for level in (2, 1, 0):
            inner[level] = inner[level] + functional.interpolate(inner[level + 1], inner[level].shape[2:])
        out = [conv(x) for conv, x in zip(self.outer, inner, strict=True)]
        return [*out, functional.max_pool2d(out[-1], 1, 2)]


class FasterRcnn(nn.Module):
    """With the numbers of samples as arguments; the others are those of the paper and of its feature pyramid."""

    def __init__(self, classes: int, rpn_samples: int, rpn_share: float, samples: int, share: float) -> None:
        super().__init__()
        self.rpn_samples, self.rpn_share, self.samples, self.share = rpn_samples, rpn_share, samples, share
        self.backbone = ResNet50()
        self.pyramid = Pyramid()
        self.head = nn.Conv2d(256, 256, 3, padding=1)
        self.mark = nn.Conv2d(256, len(RATIOS), 1)
        self.offset = nn.Conv2d(256, 4 * len(RATIOS), 1)
        self.pool = RoiAlignLowering.torch(RoiAlign(size=7, strides=STRIDES[:4]), ())
        self.fc6 = nn.Linear(256 * 7 * 7, 1024)
        self.fc7 = nn.Linear(1024, 1024)
        self.class_scores = nn.Linear(1024, classes + 1)
        self.box_deltas = nn.Linear(1024, 4 * (classes + 1))

    def forward(self, images: Tensor, objects: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        maps = self.pyramid(self.backbone(images))
        marks, deltas, anchors = [], [], []
        for x, size, stride in zip(maps, SIZES, STRIDES, strict=True):
            hidden = functional.relu(self.head(x))
            marks.append(self.mark(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.offset(hidden).permute(0, 2, 3, 1).reshape(len(images), -1, 4))
            anchors.append(anchors_of(x.shape[2], x.shape[3], size, stride))
        regions = self.proposals(marks, deltas, anchors, images.shape[2], images.shape[3])
        losses = self.proposal_losses(torch.cat(marks, 1), torch.cat(deltas, 1), torch.cat(anchors), objects)
        return {**losses, **self.region_losses(maps, regions, objects, labels)}

    @torch.no_grad()
    def proposals(
        self, marks: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], height: int, width: int
    ) -> list[Tensor]:
        found = []
        for image in range(len(marks[0])):
            kept_boxes, kept_scores = [], []
            for mark, delta, anchor in zip(marks, deltas, anchors, strict=True):
                scores, places = mark[image].topk(min(2000, mark.shape[1]))
                boxes = decode(delta[image, places], anchor[places])
                boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
                boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
                large = ((boxes[:, 2:] - boxes[:, :2]) >= 1e-3).all(1)
                boxes, scores = boxes[large], scores[large]
                kept = suppressed(boxes, 0.7, 2000)
                kept_boxes.append(boxes[kept])
                kept_scores.append(scores[kept])
            scores = torch.cat(kept_scores)
            found.append(torch.cat(kept_boxes)[scores.topk(min(2000, len(scores))).indices])
        return found

    def proposal_losses(
        self, marks: Tensor, deltas: Tensor, anchors: Tensor, objects: list[Tensor]
    ) -> dict[str, Tensor]:
        logits, wanted, moved, targets = [], [], [], []
        for image, boxes in enumerate(objects):
            overlaps = iou(boxes, anchors)
            best, matched = overlaps.max(0)
            positive = best >= 0.7
            positive |= (overlaps == overlaps.max(1, keepdim=True).values).any(0)
            negative = (best < 0.3) & ~positive
            chosen, count = sample(positive, negative, self.rpn_samples, self.rpn_share)
            logits.append(marks[image, chosen])
            wanted.append((torch.arange(len(chosen)) < count).float())
            moved.append(deltas[image, chosen[:count]])
            targets.append(encode(boxes[matched[chosen[:count]]], anchors[chosen[:count]]))
        given = torch.cat(logits)
        errors = functional.binary_cross_entropy_with_logits(given, torch.cat(wanted))
        offsets = functional.smooth_l1_loss(torch.cat(moved), torch.cat(targets), beta=1 / 9, reduction="sum")
        return {"objectness": errors, "rpn_boxes": offsets / len(given)}

    def region_losses(
        self, maps: list[Tensor], regions: list[Tensor], objects: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:
        chosen_boxes, classes, targets = [], [], []
        for proposals, boxes, names in zip(regions, objects, labels, strict=True):
            proposals = torch.cat((proposals, boxes))
            best, matched = iou(boxes, proposals).max(0)
            chosen, count = sample(best >= 0.5, best < 0.5, self.samples, self.share)
            own = names[matched[chosen]] + 1
            own[count:] = 0
            classes.append(own)
            chosen_boxes.append(proposals[chosen])
            targets.append(encode(boxes[matched[chosen]], proposals[chosen]) * torch.tensor([10.0, 10.0, 5.0, 5.0]))
        most = max(map(len, chosen_boxes))
        padded = torch.stack([functional.pad(boxes, (0, 0, 0, most - len(boxes))) for boxes in chosen_boxes])
        there = torch.cat([torch.arange(most) < len(boxes) for boxes in chosen_boxes])
        pooled = self.pool(*maps[:4], padded).flatten(2).flatten(0, 1)[there]
        hidden = functional.relu(self.fc7(functional.relu(self.fc6(pooled))))
        wanted = torch.cat(classes)
        errors = functional.cross_entropy(self.class_scores(hidden), wanted)
        positive = wanted.nonzero()[:, 0]
        moved = self.box_deltas(hidden).view(len(wanted), -1, 4)[positive, wanted[positive]]
        offsets = functional.smooth_l1_loss(moved, torch.cat(targets)[positive], beta=1.0, reduction="sum")
        return {"classes": errors, "boxes": offsets / len(wanted)}


def anchors_of(rows: int, columns: int, size: int, stride: int) -> Tensor:
    ratios = torch.tensor(RATIOS)
    width, height = size / ratios.sqrt() / 2, size * ratios.sqrt() / 2
    around = torch.stack((-width, -height, width, height), 1).round()
    y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
    return (torch.stack((x, y, x, y), 2)[:, :, None] + around).view(-1, 4)


def sample(positive: Tensor, negative: Tensor, count: int, share: float) -> tuple[Tensor, int]:
    """Which boxes are trained, the positive ones first, and how many these are."""
    positives, negatives = positive.nonzero()[:, 0], negative.nonzero()[:, 0]
    found = positives[torch.randperm(len(positives))[: int(count * share)]]
    others = negatives[torch.randperm(len(negatives))[: count - len(found)]]
    return torch.cat((found, others)), len(found)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    other_area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / (area[:, None] + other_area - shared)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    sides, from_sides = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centres, from_centres = boxes[:, :2] + sides / 2, anchors[:, :2] + from_sides / 2
    return torch.cat(((centres - from_centres) / from_sides, (sides / from_sides).log()), 1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    from_sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + from_sides / 2 + deltas[:, :2] * from_sides
    sides = from_sides * deltas[:, 2:].clamp(max=math.log(1000 / 16)).exp()
    return torch.cat((centres - sides / 2, centres + sides / 2), 1)
