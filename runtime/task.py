"""What a model that answers with boxes or a mask says about its outputs: ``netspec.task``.

``{"kind": "detection", "boxes": …, "scores": …, "labels": …, "counts": …}`` names four outputs, with N images and room
for K objects in each:

==========  ==================================================================================================
``boxes``   float32 N × K × 4: left, top, right, bottom in pixels of the image as it was given
``scores``  float32 N × K, falling
``labels``  int64 N × K: the number of the class, −1 behind the last object
``counts``  int64 N: how many of the K objects were found
==========  ==================================================================================================

``{"kind": "segmentation", "mask": …}`` names one: uint8 or int64 N × height × width, the number of each pixel's class,
as large as the image that was given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.stored import broken, check_fields, json_object
from runtime.tensors import Dimension, TensorSpec

KEY = "netspec.task"


@dataclass(frozen=True)
class Detection:
    """The names of a detector's outputs."""

    boxes: str
    scores: str
    labels: str
    counts: str


@dataclass(frozen=True)
class Segmentation:
    """The name of the output that holds the class of every pixel."""

    mask: str


Task = Detection | Segmentation

KINDS: dict[str, type[Task]] = {"detection": Detection, "segmentation": Segmentation}
TYPES: dict[str, tuple[type[np.generic], ...]] = {
    "boxes": (np.float32,),
    "scores": (np.float32,),
    "labels": (np.int64,),
    "counts": (np.int64,),
    "mask": (np.int64, np.uint8),
}
SHAPES: dict[str, tuple[Dimension, ...]] = {
    "boxes": ("batch", "objects", 4),
    "scores": ("batch", "objects"),
    "labels": ("batch", "objects"),
    "counts": ("batch",),
    "mask": ("batch", "height", "width"),
}


def read_task(stored: Mapping[str, str], outputs: Sequence[TensorSpec]) -> Task | None:
    """The task of a model with these outputs, None where nothing is said of it.

    Raises:
        Broken: it is no such object, names an output that is not there, or one of another rank or type.
    """
    if KEY not in stored:
        return None
    value = json_object(stored, KEY)
    kind = value.pop("kind", None)
    task = KINDS.get(kind) if isinstance(kind, str) else None
    if task is None:
        broken(KEY, f"has a kind other than {' or '.join(KINDS)}")
    roles = task.__dataclass_fields__
    check_fields(KEY, value, roles)
    by_name = {spec.name: spec for spec in outputs}
    sizes: dict[Dimension, int] = {}
    for role in roles:
        _check_output(role, value.get(role), by_name, sizes)
    return task(**value)


def _check_output(role: str, name: Any, outputs: Mapping[str, TensorSpec], sizes: dict[Dimension, int]) -> None:
    """Raises Broken when an output can't play the role; `sizes` holds the sizes of dimensions that outputs share."""
    if not isinstance(name, str):
        broken(KEY, f"names no output as its {role}")
    if name not in outputs:
        broken(KEY, f"has '{name}' as its {role}, which is no output of the model")
    shape: tuple[Dimension, ...] = tuple(sizes.get(size, size) for size in SHAPES[role])
    wanted = [TensorSpec(name, np.dtype(kind), shape) for kind in TYPES[role]]
    if not any(outputs[name].may_be(spec) for spec in wanted):
        broken(KEY, f"has '{name}' as its {role}, {' or '.join(map(str, wanted))}; the output is {outputs[name]}")
    for dimension, size in zip(SHAPES[role], outputs[name].shape, strict=False):
        if isinstance(size, int):
            sizes[dimension] = size
