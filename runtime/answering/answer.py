"""A model's outputs for one row, read as its metadata says: likely classes, objects, or the classes of pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runtime.answering.objects import Found, Mask, found_objects, label_of, mask_of
from runtime.errors import InputError
from runtime.metadata import Metadata
from runtime.task import Detection, Segmentation
from runtime.tensors import TensorSpec


class Described(Protocol):
    """A model that says what it takes and gives; a session is one."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Its inputs, in its order."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Its outputs, in its order."""

    @property
    def metadata(self) -> Metadata:
        """What the exporter wrote into it."""


@dataclass(frozen=True)
class Candidate:
    """A class that a sample may belong to: its label, its index, and its probability in 0…1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a model says about one row.

    Attributes:
        top: the likeliest classes, the likeliest first; None where the model is no classifier.
        found: the objects in the image, the surest first; None where the model is no detector.
        mask: the class of each pixel; None where the model gives none.
        outputs: the row of every output by name, without the batch dimension.
    """

    top: tuple[Candidate, ...] | None
    found: tuple[Found, ...] | None
    mask: Mask | None
    outputs: Mapping[str, np.ndarray]


def answer_of(
    model: Described, outputs: Mapping[str, np.ndarray], image: np.ndarray | None, top: int, score: float
) -> Answer:
    """Reads one row of the outputs.

    Args:
        model: what gave the outputs.
        outputs: those that the answer needs, or all, by name, without the batch dimension.
        image: the pixels that were given, uint8 [height, width, channels], where the model takes pixels.
        top: how many classes a classifier tells.
        score: the score that an object needs to be told, in 0…1.

    Raises:
        InputError: the model answers with NaN, infinity or numbers that are no classes.
    """
    task, labels = model.metadata.task, model.metadata.labels
    classifier = classifier_output(model)
    return Answer(
        top=None if classifier is None else _candidates(model.metadata, classifier, outputs[classifier], top),
        found=found_objects(task, outputs, labels, score) if isinstance(task, Detection) else None,
        mask=mask_of(task, outputs, labels, image) if isinstance(task, Segmentation) else None,
        outputs=outputs,
    )


def needed_outputs(model: Described) -> tuple[str, ...]:
    """The outputs that an answer is made of; all of them where the model says nothing of their meaning."""
    task = model.metadata.task
    if isinstance(task, Detection):
        return task.boxes, task.scores, task.labels, task.counts
    if isinstance(task, Segmentation):
        return (task.mask,)
    classifier = classifier_output(model)
    return tuple(spec.name for spec in model.outputs) if classifier is None else (classifier,)


def classifier_output(model: Described) -> str | None:
    """The output whose columns are classes, None where there is none, as in models that tell what is where.

    It has shape [batch, classes] and gives either scores (``softmax``), or probabilities (``none``) for the labels.
    """
    metadata = model.metadata
    if metadata.task is not None:
        return None
    for spec in model.outputs:
        step = metadata.postprocess.get(spec.name)
        labelled = metadata.labels is not None and spec.shape[-1:] == (len(metadata.labels),)
        if len(spec.shape) == 2 and (step == "softmax" or (step == "none" and labelled)):
            return spec.name
    return None


def fixed_batch(model: Described) -> int | None:
    """The only number of rows that the model takes, None where it takes any."""
    return next((spec.shape[0] for spec in model.inputs if spec.shape and isinstance(spec.shape[0], int)), None)


def split_rows(name: str, array: np.ndarray, count: int) -> Sequence[np.ndarray]:
    """An output by row; with one row, an output that has no batch dimension belongs to it whole.

    Raises:
        InputError: it has another number of rows.
    """
    if array.ndim and len(array) == count:
        return list(array)
    if count == 1:
        return [array]
    raise InputError(
        f"the output '{name}' has shape {list(array.shape)}, which are not {count} rows",
        help="run one row at a time: --batch-size 1",
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    """The probabilities of scores [batch, classes], each row summing to 1; NaN where a score is infinite or NaN."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _candidates(metadata: Metadata, output: str, values: np.ndarray, top: int) -> tuple[Candidate, ...]:
    """The `top` likeliest classes by the values [classes] of a classifier's output for one row."""
    values = values.astype(np.float64)
    probabilities = softmax(values) if metadata.postprocess[output] == "softmax" else values
    if not np.isfinite(probabilities).all():
        raise InputError("the model answers with NaN or infinity")
    best = np.argsort(-probabilities, kind="stable")[:top]
    # Where the number of classes is symbolic, nobody has checked that there are as many labels.
    return tuple(Candidate(label_of(i, metadata.labels), int(i), float(probabilities[i])) for i in best.tolist())
