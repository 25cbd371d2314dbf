"""What a model says about samples: for each row its classes with probabilities, or the outputs as they are."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.errors import InputError
from runtime.samples import Feeds, read_samples
from runtime.session import Session

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class Candidate:
    """A class that a sample may belong to: its label, its index, and its probability in 0…1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one row of one file.

    Attributes:
        file: where the row came from.
        row: its number in that file, from 0.
        rows: how many rows the file has.
        top: the likeliest classes, the likeliest first; None where the model is no classifier.
        outputs: the row of every output by name, without the batch dimension.
    """

    file: Path
    row: int
    rows: int
    top: tuple[Candidate, ...] | None
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Row:
    """One row of a file, without the batch dimension."""

    file: Path
    number: int
    of: int
    feeds: Feeds

    def shapes(self) -> list[tuple[int, ...]]:
        return [array.shape for array in self.feeds.values()]


def predict(
    session: Session, files: Iterable[Path], top: int = 1, batch_size: int | None = None
) -> Iterator[list[Prediction]]:
    """Runs the model on files and yields, batch by batch, a prediction for every row in order.

    Args:
        session: the model.
        files: images, ``.npy`` and ``.npz`` files; each is read when its turn comes.
        top: how many classes to give for each row.
        batch_size: how many rows to run at once; None for the model's own batch size, or 32 where any will do. Rows of
            different shapes are never run together.

    Raises:
        InputError: a file cannot be read or does not fit the model, the model's batch size is another, or several
                classes are asked of a model that is no classifier.
    """
    if not session.inputs:
        raise InputError(f"{session.path} takes no input, so there is nothing to predict from files")
    if top > 1 and classifier_output(session) is None:
        raise InputError(
            f"more than one class cannot be told: {session.path} does not say that it is a classifier",
            help="a classifier has 'netspec.postprocess' in its metadata",
        )
    fixed = _fixed_batch(session)
    if fixed is not None and batch_size not in (None, fixed):
        raise InputError(f"the model runs exactly {fixed} rows at a time, not {batch_size}")
    for batch in _batches(_rows(session, files), batch_size or fixed or DEFAULT_BATCH):
        yield _run(session, batch, fixed or len(batch), top)


def classifier_output(session: Session) -> str | None:
    """The output whose columns are classes, None where there is none.

    It has shape [batch, classes] and gives either scores (``softmax``), or probabilities (``none``) for the labels.
    """
    metadata = session.metadata
    for spec in session.outputs:
        step = metadata.postprocess.get(spec.name)
        labelled = metadata.labels is not None and spec.shape[-1:] == (len(metadata.labels),)
        if len(spec.shape) == 2 and (step == "softmax" or (step == "none" and labelled)):
            return spec.name
    return None


def softmax(scores: np.ndarray) -> np.ndarray:
    """The probabilities of scores [batch, classes], each row summing to 1; NaN where a score is infinite or NaN."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _fixed_batch(session: Session) -> int | None:
    """The only number of rows that the model takes, None where it takes any."""
    return next((spec.shape[0] for spec in session.inputs if spec.shape and isinstance(spec.shape[0], int)), None)


def _rows(session: Session, files: Iterable[Path]) -> Iterator[_Row]:
    for file in files:
        feeds = read_samples(file, session)
        count = len(feeds[session.inputs[0].name])
        for number in range(count):
            yield _Row(file, number, count, {name: array[number] for name, array in feeds.items()})


def _batches(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    """The rows in order, in groups of at most `size` neighbours of equal shapes."""
    for _, alike in itertools.groupby(rows, key=_Row.shapes):
        while batch := list(itertools.islice(alike, size)):
            yield batch


def _run(session: Session, batch: list[_Row], size: int, top: int) -> list[Prediction]:
    """Runs a batch; a model of a fixed batch size gets the last row again until there are `size`."""
    filled = batch + batch[-1:] * (size - len(batch))
    feeds = {spec.name: np.stack([row.feeds[spec.name] for row in filled]) for spec in session.inputs}
    by_row = {name: _split(name, array, size) for name, array in session.run(feeds).items()}
    classifier = classifier_output(session)
    return [
        Prediction(
            file=row.file,
            row=row.number,
            rows=row.of,
            top=_candidates(session, row, classifier, by_row[classifier][i], top) if classifier else None,
            outputs={name: arrays[i] for name, arrays in by_row.items()},
        )
        for i, row in enumerate(batch)
    ]


def _split(name: str, array: np.ndarray, count: int) -> Sequence[np.ndarray]:
    """An output by row; with one row, an output that has no batch dimension belongs to it whole."""
    if array.ndim and len(array) == count:
        return list(array)
    if count == 1:
        return [array]
    raise InputError(
        f"the output '{name}' has shape {list(array.shape)}, which are not {count} rows",
        help="run one row at a time: --batch-size 1",
    )


def _candidates(session: Session, row: _Row, output: str, values: np.ndarray, top: int) -> tuple[Candidate, ...]:
    """The `top` likeliest classes by the values [classes] of a classifier's output for one row."""
    values = values.astype(np.float64)
    probabilities = softmax(values) if session.metadata.postprocess[output] == "softmax" else values
    if not np.isfinite(probabilities).all():
        raise InputError(f"{row.file}: for row {row.number} the model answers with NaN or infinity")
    best = np.argsort(-probabilities, kind="stable")[:top]
    labels = session.metadata.labels or ()
    # Where the number of classes is symbolic, nobody has checked that there are as many labels.
    return tuple(
        Candidate(labels[i] if i < len(labels) else str(i), int(i), float(probabilities[i])) for i in best.tolist()
    )
