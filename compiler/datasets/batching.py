"""Samples as batches for a network: images laid onto its input as they are when it is served, and truth with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from compiler.batches import Batch, Data, Place
from compiler.datasets.loading import load_pictures
from compiler.datasets.masks import check_numbers
from compiler.datasets.sample import IGNORED, Array, Dataset, Faults, Parts, Sample, SampleError
from compiler.detection.criterion import Target
from compiler.errors import CompilerError
from compiler.lowering.imaging import PrepareImages
from compiler.targets import check_names
from netspec.data_choices import Augment, Pictures
from netspec.deployed import preparation
from netspec.detection_checks import classes_of
from netspec.detection_choices import DetectionLoss
from netspec.network import Network
from netspec.ops.imaging import Fitting
from netspec.outputs import is_image, shape_of

WORKERS = 4  # threads that decode images and vary them; both work outside the interpreter most of the time
MAX_LISTED = 5


def picture_data(network: Network, choice: Pictures, base: Path) -> Data:
    """Images with boxes or masks, made to fit a network.

    Args:
        base: the folder against which relative paths are taken: the spec's.

    Raises:
        CompilerError: they can't be had, or do not fit.
    """
    recipe = network.sections["train"]
    detects = isinstance(recipe.loss, DetectionLoss)
    network_input = NetworkInput(network, detects)
    parts = load_pictures(choice, base)
    if detects:
        check_boxes(parts)
    labels = parts.train.labels if detects else parts.train.mask_labels
    if labels:
        check_classes(network, labels)
    vary = _varying(recipe.augment, recipe.numbers.seed)
    pool = ThreadPoolExecutor(max_workers=WORKERS)
    train, test = (PictureSplit(data, network_input, parts.faults, vary, pool) for data in (parts.train, parts.test))
    return Data(train, test, labels, parts.faults.skipped)


def _varying(augment: Augment | None, seed: int) -> Callable[[Sample, int, int], Sample] | None:
    """What makes of a sample that of an epoch, given its number; None where nothing is varied."""
    if augment is None:
        return None
    from compiler.datasets.augment import varied  # Kornia is for those that use it

    return lambda sample, epoch, index: varied(sample, augment, seed, epoch, index)


def check_boxes(parts: Parts) -> None:
    """Sees to it that there is something to be found.

    Raises:
        CompilerError: no image of a part has a box.
    """
    for data, what, why in ((parts.train, "train on", "learnt"), (parts.test, "hold out", "measured")):
        if data.counts is not None and not any(data.counts):
            many = "the one image" if len(data) == 1 else f"none of the {len(data):,} images"
            raise CompilerError(
                f"{many} to {what} has {'no' if len(data) == 1 else 'a'} box, so that nothing could be {why}",
                "look at where the boxes are read from; images without boxes are taken beside others that have some",
            )


def check_classes(network: Network, labels: Sequence[str]) -> None:
    """Holds the classes of the data against those of the network.

    Raises:
        CompilerError: the network has more or fewer, or its labels are in another order.
    """
    loss = network.sections["train"].loss
    if isinstance(loss, DetectionLoss):
        columns = classes_of(network, loss)
    else:
        columns = {name: _classes(network, name) for name in network.outputs}
    for output, count in columns.items():
        if count is not None and count != len(labels):
            shown = ", ".join(labels[:MAX_LISTED]) + (", …" if len(labels) > MAX_LISTED else "")
            what = f"the data has {len(labels)} class{'es' if len(labels) > 1 else ''} ({shown})"
            raise CompilerError(
                f"{what}, the network's output `{output}` is for {count}",
                f"{_more_classes(network, len(labels), count)}, or the data a list of {count}",
            )
    check_names(network, labels)


def _more_classes(network: Network, wanted: int, count: int) -> str:
    """How a network gets other classes; its argument may leave the background out, so the difference counts."""
    stated = network.arguments.get("classes")
    if not isinstance(stated, int):
        return f"give the network {wanted} classes"
    return f"give the network {wanted} classes, `--set classes={stated + wanted - count}`"


def _classes(network: Network, output: str) -> int | None:
    classes = shape_of(network, output)[1]
    return classes if isinstance(classes, int) else None


class NetworkInput:
    """How images become what a network reads.

    Attributes:
        fitting: how they are laid onto its input.
        detects: whether the network looks for objects, not for classes of pixels.
        classes: of a network that tells classes of pixels.
    """

    def __init__(self, network: Network, detects: bool) -> None:
        images = [name for name in network.inputs if is_image(network, name)]
        others = [name for name in network.inputs if name not in images]
        if len(images) != 1:
            raise CompilerError(f"`{network.name}` reads {len(images)} images N × 1 or 3 × height × width, not one")
        self.fitting = preparation(network, images[0])
        self.prepare: nn.Module = PrepareImages(self.fitting)
        channels, *size = network.layer(images[0])["output"].shape[1:]
        self.grey = channels == 1
        self.size = tuple(side if isinstance(side, int) else None for side in size)
        self.detects = detects
        self.classes = None if detects else _classes(network, next(iter(network.outputs)))
        self.proposals = self._proposals(network, others)
        self.order = [name in images for name in network.inputs]

    @staticmethod
    def _proposals(network: Network, others: list[str]) -> int | None:
        """How many proposals the network reads: None for none, 0 for as many as there are."""
        if not others:
            return None
        shape = network.layer(others[0])["output"].shape  # not as in `sizes`: a free number of boxes is free
        if len(others) > 1 or len(shape) != 3 or shape[2] != 4:
            raise CompilerError(
                f"`{network.name}` reads `{others[-1]}`, which is neither an image nor boxes, N × P × 4"
            )
        return shape[1] if isinstance(shape[1], int) else 0

    def batch(self, samples: Sequence[Sample], varied: bool) -> Batch:
        """The samples as a network reads them."""
        places = tuple(Place.of(self.fitting, *sample.image.shape[:2]) for sample in samples)
        images = self.images([sample.image for sample in samples])
        inputs = (
            (images,)
            if self.proposals is None
            else tuple(images if image else self._padded_proposals(samples, places) for image in self.order)
        )
        targets: Tensor | tuple[Target, ...]
        if self.detects:
            targets = tuple(target(sample, place) for sample, place in zip(samples, places, strict=True))
        else:
            targets = self._masks(samples, (images.shape[2], images.shape[3]))
        names = tuple(sample.name for sample in samples)
        return Batch(inputs, targets, names, () if varied else tuple(samples), () if varied else places)

    def images(self, images: Sequence[Array]) -> Tensor:
        """Images as N × C × H × W; where they come in several sizes, filled up with zeros below and to the right."""
        if self.grey:
            images = [np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in images]
        if len({image.shape for image in images}) == 1:
            made: Tensor = self.prepare(torch.from_numpy(np.stack(images)))
            return made
        single = [self.prepare(torch.from_numpy(image[None].copy()))[0] for image in images]
        height, width = (max(one.shape[axis] for one in single) for axis in (1, 2))
        return torch.stack(
            [nn.functional.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in single]
        )

    def check(self, sample: Sample) -> None:
        """Holds a sample against the network.

        Raises:
            SampleError: its mask has other classes, or its image another size where it is taken as it is.
        """
        if not self.detects:
            assert sample.mask is not None
            check_numbers(sample.mask, self.classes or 0, sample.name)
        size = sample.image.shape[:2]
        if self.fitting.fit == "none" and any(
            own not in (None, side) for own, side in zip(self.size, size, strict=True)
        ):
            message = f"`{sample.name}` is {size[1]} × {size[0]}, and the network's input has another size"
            raise SampleError(sample.name, message, "write `fit: letterbox` or `fit: stretch` in `deploy.preprocess`")
        if self.proposals is not None and sample.proposals is None:
            raise CompilerError(
                "the network reads proposals, and the data has none", "make them with `netspec proposals`"
            )

    def _padded_proposals(self, samples: Sequence[Sample], places: Sequence[Place]) -> Tensor:
        """Proposals N × P × 4 in pixels of the network's input, filled up with zeros."""
        moved = []
        for sample, place in zip(samples, places, strict=True):
            assert sample.proposals is not None
            moved.append(moved_boxes(sample.proposals, place))
        count = self.proposals or max(1, *(len(boxes) for boxes in moved))
        padded = torch.zeros(len(moved), count, 4)
        for row, boxes in zip(padded, moved, strict=True):
            row[: len(boxes)] = boxes[:count]
        return padded

    def _masks(self, samples: Sequence[Sample], size: tuple[int, int]) -> Tensor:
        """Masks N × H × W int64; what is filled up is ignored."""
        found = torch.full((len(samples), *size), IGNORED, dtype=torch.int64)
        for row, sample in zip(found, samples, strict=True):
            assert sample.mask is not None
            mask, (top, left) = fitted_mask(sample.mask, self.fitting)
            row[top : top + mask.shape[0], left : left + mask.shape[1]] = torch.from_numpy(mask.astype(np.int64))
        return found


def target(sample: Sample, place: Place) -> Target:
    """The objects of an image in pixels of the network's input."""
    return Target(
        moved_boxes(sample.boxes, place),
        torch.from_numpy(sample.labels.astype(np.int64)),
        torch.from_numpy(sample.ignore.astype(bool)),
    )


def moved_boxes(boxes: Array, place: Place) -> Tensor:
    """Boxes n × 4 in pixels of an image as boxes in pixels of the network's input."""
    scale, offset = torch.tensor(place.scale * 2), torch.tensor(place.offset * 2)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * scale + offset


def fitted_mask(mask: Array, fitting: Fitting) -> tuple[Array, tuple[int, int]]:
    """A mask as large as its image is in the network's input, and the place of its first pixel there.

    Each pixel takes the number of the nearest one.
    """
    scaled = fitting.scaled(*mask.shape)
    for axis, (old, new) in enumerate(zip(mask.shape, scaled, strict=True)):
        mask = mask.take((np.arange(new) * 2 + 1) * old // (2 * new), axis=axis)
    return mask, fitting.offset(*scaled)


@dataclass(frozen=True, slots=True)
class PictureSplit:
    """A part of a data set as batches; a `compiler.batches.Split`.

    Attributes:
        faults: what is done about samples that can't be used.
        vary: gives a sample as of an epoch, with its number; None where nothing is varied.
    """

    data: Dataset
    network_input: NetworkInput
    faults: Faults
    vary: Callable[[Sample, int, int], Sample] | None
    pool: ThreadPoolExecutor

    @property
    def names(self) -> Sequence[str]:
        return self.data.names

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Tensor, epoch: int | None = None) -> Batch:
        """The samples at these indices, varied as of an epoch; those that can't be used are left out.

        Raises:
            CompilerError: one can't be used, and none is to be left out.
        """
        samples: list[Sample] = []
        for found in self.pool.map(lambda index: self._sample(index, epoch), indices.tolist()):
            if isinstance(found, SampleError):
                self.faults.met(found)
            else:
                samples.append(found)
        if not samples:
            return Batch((), (), ())
        return self.network_input.batch(samples, varied=epoch is not None)

    def _sample(self, index: int, epoch: int | None) -> Sample | SampleError:
        try:
            sample = self.data.read(index)
            self.network_input.check(sample)
        except SampleError as error:
            return error
        if self.network_input.detects:
            sample = replace(sample, mask=None, instances=None)
        return sample if epoch is None or self.vary is None else self.vary(sample, epoch, index)
