"""What a data set of images with boxes and masks gives, and what is said of those that can't be read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from compiler.errors import CompilerError
from netspec.data_choices import OnError

Array = NDArray[Any]
IGNORED = 255  # the number of pixels of a mask that are neither right nor wrong


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and what is to be found in it. Boxes are left, top, right, bottom; the first pixel is from 0 to 1.

    Attributes:
        name: of the image: its file, or its number.
        image: H × W × 3 uint8, red, green, blue.
        boxes: n × 4 float32, in pixels of the image.
        labels: n int64; 0 is the first class, and never the background.
        ignore: n bool: crowds and difficult objects, which are neither to be found nor wrong to be found.
        mask: H × W uint8: 0 is the background, 255 is ignored; None where the data have no masks.
        proposals: P × 4 float32, in pixels of the image; None where the data have none.
        instances: H × W uint8: 0 is the background, i + 1 the object of the i-th box; None where that is not known.
    """

    name: str
    image: Array
    boxes: Array
    labels: Array
    ignore: Array
    mask: Array | None = None
    proposals: Array | None = None
    instances: Array | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples by number.

    Attributes:
        labels: the names of the classes of boxes.
        mask_labels: the names of the numbers in masks, from 0; empty where there are no masks.
        names: of the samples.
        read: gives the sample of a number, or raises a `SampleError`; safe to be called from several threads.
        counts: how many boxes each sample has; None where that is not known before it is read.
    """

    labels: tuple[str, ...]
    mask_labels: tuple[str, ...]
    names: Sequence[str]
    read: Callable[[int], Sample]
    counts: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The samples of these numbers, renumbered."""
        counts = None if self.counts is None else [self.counts[i] for i in indices]
        names = [self.names[i] for i in indices]
        return replace(self, names=names, read=lambda index: self.read(indices[index]), counts=counts)


class SampleError(CompilerError):
    """A sample that can't be used.

    Attributes:
        name: the file, or what else is at fault.
    """

    def __init__(self, name: object, message: str, help: str = "") -> None:
        super().__init__(message, help)
        self.name = str(name)


@dataclass(slots=True)
class Faults:
    """What is done about samples that can't be used: the first ends the run, or all are left out and remembered.

    Attributes:
        skipped: why each sample was left out, by its name, in the order in which they were met.
    """

    on_error: OnError = "refuse"
    skipped: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def met(self, error: SampleError) -> None:
        """Takes note of a sample that can't be used.

        Raises:
            SampleError: that very one, where none are left out.
        """
        if self.on_error == "refuse":
            error.help = error.help or "mend it, or leave out what can't be used: `--on-error skip`"
            raise error
        with self._lock:
            self.skipped.setdefault(error.name, error.message)


@dataclass(frozen=True, slots=True)
class Parts:
    """The samples to train on and those held out.

    Attributes:
        faults: the samples that were left out so far; those whose images turn out to be damaged are added when met.
    """

    train: Dataset
    test: Dataset
    faults: Faults
