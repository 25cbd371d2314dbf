"""Which object each box of a network is to find: the boxes of a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from compiler.detection.boxes import TINY, area, intersection, iou, pairwise
from compiler.detection.criterion import Target

MOST_PAIRS = 2**24  # of boxes and objects that are held against one another at a time: 64 MiB each tensor of them
COVERED = 0.5  # the share of a grid's box within an ignored object from which on it is not background


@dataclass(frozen=True, slots=True)
class Truth:
    """The objects of a batch, with padding to M ≥ 1 for each of the N images.

    Attributes:
        boxes: N × M × 4.
        labels: N × M int64.
        wanted: N × M bool: objects that are to be found, neither padding nor ignored.
        ignored: N × M bool: objects that are neither to be found nor wrong to be found; None where there are none.
    """

    boxes: Tensor
    labels: Tensor
    wanted: Tensor
    ignored: Tensor | None

    @staticmethod
    def of(targets: Sequence[Target]) -> Truth:
        """The objects of some images as one batch; objects without area are left out."""
        boxes = _padded([target.boxes for target in targets])
        known = _padded([torch.ones_like(target.ignore) for target in targets]) & (area(boxes) > 0)
        ignored = _padded([target.ignore for target in targets]) & known
        some = any(bool(target.ignore.any()) for target in targets)
        return Truth(boxes, _padded([target.labels for target in targets]), known & ~ignored, ignored if some else None)

    def of_images(self, images: slice) -> Truth:
        """The objects of some of the images."""
        ignored = None if self.ignored is None else self.ignored[images]
        return Truth(self.boxes[images], self.labels[images], self.wanted[images], ignored)


@dataclass(frozen=True, slots=True)
class Matches:
    """What each of N × B boxes is to find. A box that is neither positive nor negative is not trained.

    Attributes:
        truth: the objects.
        objects: N × B int64: the object that a box is matched with, or would be if it were positive.
        positive: N × B bool: boxes that are to find their object.
        negative: N × B bool: boxes that are background.
    """

    truth: Truth
    objects: Tensor
    positive: Tensor
    negative: Tensor

    @property
    def labels(self) -> Tensor:
        """The labels of the matched objects, N × B."""
        return self.truth.labels.gather(1, self.objects)

    @property
    def boxes(self) -> Tensor:
        """The matched objects' boxes, N × B × 4."""
        return self.truth.boxes.gather(1, self.objects[..., None].expand(-1, -1, 4))

    def at(self, indices: Tensor) -> Matches:
        """The same of some of the boxes, by their numbers N × S."""
        return Matches(self.truth, *(kept.gather(1, indices) for kept in (self.objects, self.positive, self.negative)))


@torch.no_grad()
def match(
    boxes: Tensor,
    truth: Truth,
    positive: float,
    negative: float,
    least: float = 0.0,
    low_quality: bool = False,
) -> Matches:
    """Matches every box with the object that it overlaps most.

    A box is positive from the IoU `positive` on, negative in [`least`, `negative`). With `low_quality` the boxes that
    overlap an object most are positive too, however little that is. A box of which a share of `negative` or more lies
    within an ignored object is not negative. Boxes without area are neither. Source: Ren et al. 2015, section 3.1.2.

    Args:
        boxes: N × B × 4.
    """
    parts = []
    for some, there, overlaps in held_against(boxes, truth):
        best, objects = overlaps.max(1)
        found = best >= positive
        if low_quality:
            most = overlaps.amax(2, keepdim=True)
            found |= ((overlaps == most) & (most > 0)).any(1)
        # Where nothing is wanted, `best` is −1.
        background = (best < negative) & (best.clamp(min=0) >= least) & ~found
        parts.append((objects, found, background & ~covered(some, there, negative) & (area(some) > 0)))
    return _joined(truth, parts)


@torch.no_grad()
def match_each(boxes: Tensor, truth: Truth, positive: float) -> Matches:
    """Matches every object with a box of its own, and the other boxes with the object that they overlap most.

    The pair of box and object that overlap most is matched first, then the best pair of those that are left. Every
    other box is positive from the IoU `positive` on, else negative. Source: Liu et al. 2016, section 2.2, "Matching
    strategy"; Erhan et al. 2014 for the pairs.

    Args:
        boxes: N × B × 4.
    """
    parts = []
    for some, there, overlaps in held_against(boxes, truth):
        best, objects = overlaps.max(1)
        found = best >= positive
        rows, numbers, own = _best_pairs(overlaps)
        objects[rows, own] = numbers
        found[rows, own] = True
        parts.append((objects, found, ~found & ~covered(some, there, positive)))
    return _joined(truth, parts)


@torch.no_grad()
def near(boxes: Tensor, truth: Truth, overlap: float) -> Tensor:
    """Which of N × B boxes overlap an object by more than this, or lie half within an ignored one."""
    parts = [
        (overlaps.amax(1) > overlap) | covered(some, there, COVERED)
        for some, there, overlaps in held_against(boxes, truth)
    ]
    return torch.cat(parts)


def held_against(boxes: Tensor, truth: Truth) -> Iterator[tuple[Tensor, Truth, Tensor]]:
    """The boxes and objects of some images at a time, and their overlaps."""
    for images in portions(boxes, truth):
        some, there = boxes[images], truth.of_images(images)
        yield some, there, overlaps_with(some, there)


def portions(boxes: Tensor, truth: Truth) -> Iterator[slice]:
    """As many images at a time as their pairs of boxes and objects have room for: mostly all of them."""
    step = max(1, MOST_PAIRS // max(1, boxes.shape[1] * truth.boxes.shape[1]))
    for first in range(0, len(boxes), step):
        yield slice(first, first + step)


def _joined(truth: Truth, parts: list[tuple[Tensor, Tensor, Tensor]]) -> Matches:
    objects, positive, negative = (torch.cat(column) for column in zip(*parts, strict=True))
    return Matches(truth, objects, positive, negative)


def overlaps_with(boxes: Tensor, truth: Truth) -> Tensor:
    """IoU of each object and each box, N × M × B; −1 of what is no object to be found."""
    columns = boxes.mT.contiguous().mT  # each coordinate in a row, as it is read again and again
    return pairwise(iou, truth.boxes, columns).masked_fill_(~truth.wanted[..., None], -1)


def covered(boxes: Tensor, truth: Truth, share: float) -> Tensor:
    """Which boxes lie within an ignored object with at least this share of their area, N × B."""
    if truth.ignored is None:
        return torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    shares = pairwise(intersection, truth.boxes, boxes) / area(boxes).clamp(min=TINY)[:, None]
    return ((shares >= share) & truth.ignored[..., None]).any(1)


def _best_pairs(overlaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of objects and boxes, the best first, each in one pair: the numbers of image, object and box.

    Of M objects, M − 1 can be before another, so its M best boxes are all that it may be matched with.
    """
    images, count, boxes = overlaps.shape
    table, candidates = overlaps.topk(min(count, boxes), 2)
    rows = torch.arange(images, device=overlaps.device)
    pairs = []
    for _ in range(count):
        best, place = table.flatten(1).max(1)
        number, box = place // table.shape[2], candidates.flatten(1)[rows, place]
        pairs.append(torch.stack((rows, number, box), 1)[best > 0])
        table[rows, number] = -1
        table.masked_fill_(candidates == box[:, None, None], -1)
    image, number, box = torch.cat(pairs).unbind(1)
    return image, number, box


def _padded(rows: list[Tensor]) -> Tensor:
    """N × M …, with zeros after each image's rows; M is at least 1, so that there is something to take the best of."""
    padded = pad_sequence(rows, batch_first=True)
    return padded if padded.shape[1] else padded.new_zeros(len(rows), 1, *padded.shape[2:])
