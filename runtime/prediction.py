"""What a model says about samples: for each row its classes with probabilities, or the outputs as they are."""

from collections.abc import Iterable, Iterator
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
        top: the likeliest classes, the likeliest first; None where the model is no classifier.
        outputs: the row of every output by name, without the batch dimension.
    """

    file: Path
    row: int
    top: tuple[Candidate, ...] | None
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Rows:
    """Rows of one file that wait to be run."""

    file: Path
    first: int
    feeds: Feeds

    @property
    def count(self) -> int:
        return len(next(iter(self.feeds.values())))

    def split(self, size: int) -> Iterator["_Rows"]:
        for start in range(0, self.count, size):
            part = {name: array[start : start + size] for name, array in self.feeds.items()}
            yield _Rows(self.file, self.first + start, part)


def predict(
    session: Session, files: Iterable[Path], top: int = 1, batch_size: int | None = None
) -> Iterator[list[Prediction]]:
    """Runs the model on files and yields, batch by batch, a prediction for every row in order.

    Args:
        session: the model.
        files: images, ``.npy`` and ``.npz`` files.
        top: how many classes to give for each row.
        batch_size: how many rows to run at once; None for the model's own batch size, or 32 where any will do. Rows of
            different shapes are never run together.

    Raises:
        InputError: a file cannot be read or does not fit the model, or the model's batch size is another.
    """
    fixed = _fixed_batch(session)
    if fixed is not None and batch_size not in (None, fixed):
        raise InputError(f"the model runs exactly {fixed} rows at a time, not {batch_size}")
    size = batch_size or fixed or DEFAULT_BATCH
    for batch in _batches(session, files, size):
        yield _run(session, batch, top)


def classifier_output(session: Session) -> str | None:
    """The output whose columns are classes, None where there is none.

    It has shape [batch, classes] and either gives scores (``softmax``), or probabilities (``none``) to labels.
    """
    metadata = session.metadata
    for spec in session.outputs:
        step = metadata.postprocess.get(spec.name)
        labelled = metadata.labels is not None and spec.shape[-1:] == (len(metadata.labels),)
        if len(spec.shape) == 2 and (step == "softmax" or (step == "none" and labelled)):
            return spec.name
    return None


def softmax(scores: np.ndarray) -> np.ndarray:
    """The probabilities of scores [batch, classes], each row summing to 1."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _fixed_batch(session: Session) -> int | None:
    """The only number of rows that the model takes, None where it takes any."""
    for spec in session.inputs:
        if spec.shape and isinstance(spec.shape[0], int):
            return spec.shape[0]
    return None


def _batches(session: Session, files: Iterable[Path], size: int) -> Iterator[list[_Rows]]:
    """The rows of the files in order, in groups of at most `size` rows of equal shapes."""
    waiting: list[_Rows] = []
    count = 0
    for file in files:
        samples = _Rows(file, 0, read_samples(file, session))
        if waiting and _row_shapes(waiting[0]) != _row_shapes(samples):
            yield waiting
            waiting, count = [], 0
        # The first part fills up the group that waits, so that single images are run together.
        start = 0
        while start < samples.count:
            part = next(_Rows(file, start, {n: a[start:] for n, a in samples.feeds.items()}).split(size - count))
            waiting.append(part)
            count += part.count
            start += part.count
            if count == size:
                yield waiting
                waiting, count = [], 0
    if waiting:
        yield waiting


def _row_shapes(rows: _Rows) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in rows.feeds.items()}


def _run(session: Session, batch: list[_Rows], top: int) -> list[Prediction]:
    feeds = {spec.name: np.concatenate([rows.feeds[spec.name] for rows in batch]) for spec in session.inputs}
    outputs = session.run(feeds)
    count = sum(rows.count for rows in batch)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise InputError(f"the output '{name}' has shape {list(array.shape)}, which is not one row for each of {count}")
    candidates = _candidates(session, outputs, top)
    places = [(rows.file, rows.first + number) for rows in batch for number in range(rows.count)]
    return [
        Prediction(file, row, candidates[i] if candidates else None, {name: a[i] for name, a in outputs.items()})
        for i, (file, row) in enumerate(places)
    ]


def _candidates(session: Session, outputs: dict[str, np.ndarray], top: int) -> list[tuple[Candidate, ...]] | None:
    name = classifier_output(session)
    if name is None:
        return None
    probabilities = outputs[name]
    if session.metadata.postprocess[name] == "softmax":
        probabilities = softmax(probabilities)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    labels = session.metadata.labels
    return [
        tuple(Candidate(labels[i] if labels else str(i), int(i), float(row[i])) for i in order)
        for row, order in zip(probabilities, best, strict=True)
    ]
