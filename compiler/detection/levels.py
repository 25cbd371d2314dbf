"""The maps that a detector's grid heads read: where each of their boxes is, and which of them finds an object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compiler.detection.matching import Matches, Truth
from netspec import dims
from netspec.dims import Dim, symbols
from netspec.network import Network


@dataclass(frozen=True, slots=True)
class Level:
    """A map and the boxes at each of its places.

    Attributes:
        stride: pixels of the image from place to place.
        anchors: width and height of the boxes that a place starts from; one without a size where there are none.
        size: the map's height and width, in terms of the sizes of the network's input.
    """

    stride: int
    anchors: tuple[tuple[float, ...], ...]
    size: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The boxes of all levels: level after level, row by row, in a place by anchor.

    Attributes:
        places: B × 2, column and row.
        anchors: B × 2, width and height in pixels.
        strides: B × 1 in pixels.
        levels: of which it is made, with height and width.
    """

    places: Tensor
    anchors: Tensor
    strides: Tensor
    levels: tuple[tuple[Level, int, int], ...]

    @staticmethod
    def of(levels: Iterable[Level], sizes: Mapping[str, int], device: torch.device) -> Grid:
        """The boxes for inputs of these sizes."""
        sized = []
        for level in levels:
            height, width = (dims.evaluate(dim, sizes) for dim in level.size)
            assert isinstance(height, int) and isinstance(width, int), "a map's size follows from the image's"
            sized.append((level, height, width))
        parts = [_level(*item, device) for item in sized]
        places, anchors, strides = (torch.cat(part) for part in zip(*parts, strict=True))
        return Grid(places, anchors, strides, tuple(sized))


def sizes_of(network: Network, inputs: Sequence[Tensor]) -> dict[str, int]:
    """The numbers of the network's free dimensions, which its inputs show."""
    types = [network.layer(name)["output"] for name in network.inputs]
    return {
        str(dim): size
        for given, tensor in zip(types, inputs, strict=True)
        for dim, size in zip(given.shape, tensor.shape, strict=True)
        if symbols(dim)
    }


def _level(level: Level, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = (torch.arange(size, device=device, dtype=torch.float32) for size in (height, width))
    places = torch.cartesian_prod(rows, columns).flip(1)
    anchors = torch.tensor(level.anchors, device=device, dtype=torch.float32)
    count = height * width * len(anchors)
    return (
        places.repeat_interleave(len(anchors), 0),
        anchors.repeat(height * width, 1),
        torch.full((count, 1), level.stride, device=device, dtype=torch.float32),
    )


@torch.no_grad()
def first_served(truth: Truth, boxes: Tensor, best: Tensor, chosen: Tensor, count: int) -> Matches:
    """Gives every object the boxes that are to find it; of several objects that ask for a box the first has it.

    Boxes that an object's first choice is come before those that are others' further choices. All boxes that find no
    object are negative.

    Args:
        boxes: N × M × K, the number of the box that each of K choices of an object is.
        best: N × M × K bool, its first choice.
        chosen: N × M × K bool, whether it asks for the box.
        count: of boxes, B.
    """
    images, objects, _ = boxes.shape
    numbers = torch.arange(objects, device=boxes.device)[None, :, None]
    ranks = numbers + objects * (~best).long()
    none = 2 * objects
    ranks = ranks.where(chosen, none).flatten(1)
    owners = torch.full((images, count), none, device=boxes.device)
    owners = owners.scatter_reduce(1, boxes.flatten(1), ranks, "amin")
    positive = owners < none
    return Matches(truth, owners % objects, positive, ~positive)
