"""What a training step is given: a batch of inputs and of what the network is to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from compiler.datasets.sample import Sample
from compiler.detection.criterion import Target
from netspec.ops.imaging import Fitting


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies in the network's input: x of the input = `scale`·x of the image + `offset`, and so for y.

    Attributes:
        scale: input pixels an image pixel, along x and y.
        offset: of the image's left top corner, in pixels of the input.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]

    @staticmethod
    def of(fitting: Fitting, height: int, width: int) -> Place:
        """The place of an image of a size."""
        scaled_height, scaled_width = fitting.scaled(height, width)
        top, left = fitting.offset(scaled_height, scaled_width)
        return Place((scaled_width / width, scaled_height / height), (float(left), float(top)))


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples that a network is shown together, all tensors on one device.

    Attributes:
        inputs: what the network reads, in the order of its inputs, N × … each.
        targets: a tensor with a row for each sample (class numbers, values, masks), or the objects of each image.
        names: of the samples: a file's path, or a number.
        samples: images of any size as they were read, with the truth in their pixels, where they are not varied.
        places: of these images in the first input.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor | tuple[Target, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...] = ()
    places: tuple[Place, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        targets = self.targets
        return replace(
            self,
            inputs=tuple(value.to(device) for value in self.inputs),
            targets=targets.to(device) if isinstance(targets, Tensor) else tuple(t.to(device) for t in targets),
        )


class Split(Protocol):
    """A part of the data, the training samples or those held out."""

    @property
    def names(self) -> Sequence[str]:
        """A name for each sample."""

    def __len__(self) -> int:
        """The number of samples."""

    def batch(self, indices: Tensor, epoch: int | None = None) -> Batch:
        """The samples at these indices, on the CPU; those that can't be read and are to be skipped are left out.

        Args:
            epoch: whose augmentation is drawn, which follows from the seed, the epoch and the index; None for the
                samples as they are.
        """


@dataclass(frozen=True, slots=True)
class Data:
    """A training split and a held-out one; `labels` names the classes, and is empty where there are none.

    Attributes:
        skipped: why samples were left out, by their names; it grows where more of them are met.
    """

    train: Split
    test: Split
    labels: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
