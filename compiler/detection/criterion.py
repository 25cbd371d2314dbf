"""What a detector is to find in an image, and how far its outputs are from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from netspec.network import Network


@dataclass(frozen=True, slots=True)
class Target:
    """The objects of one image, in pixels of the network's input.

    Attributes:
        boxes: n × 4 float32: left, top, right, bottom.
        labels: n int64; 0 is the first class, and never the background.
        ignore: n bool: objects that are neither to be found nor wrong to be found (crowds, difficult ones).
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor

    @staticmethod
    def of(boxes: Tensor, labels: Tensor, ignore: Tensor | None = None) -> Target:
        """Objects, none of which is to be ignored unless it is said."""
        return Target(boxes, labels, torch.zeros_like(labels, dtype=torch.bool) if ignore is None else ignore)

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        return replace(self, boxes=self.boxes.to(device), labels=self.labels.to(device), ignore=self.ignore.to(device))


class Criterion(nn.Module, ABC):
    """A detector's loss. A subclass finds in the network what it has to know: anchors, strides, classes.

    Attributes:
        names: of the network's outputs, in the order in which its module gives them.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.names = tuple(network.outputs)

    def outputs(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """What the module gives for these inputs, by the outputs' names; float32, where it works in half precision."""
        given = module(*inputs)
        whole = (
            value.float() if value.is_floating_point() else value
            for value in (given if isinstance(given, tuple) else (given,))
        )
        return dict(zip(self.names, whole, strict=True))

    @abstractmethod
    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        """The parts of the loss by name, scalars whose sum is minimised.

        Args:
            module: of the network, in training mode.
            inputs: a batch, in the order of the network's inputs; the first is N × C × H × W images.
            targets: the objects of each of the N images.
        """
