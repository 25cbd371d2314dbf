"""What a model says about samples: for each row its classes with probabilities, the objects or classes of pixels in an
image, or the outputs as they are."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.answering.answer import Answer, answer_of, classifier_output, fixed_batch, split_rows
from runtime.errors import InputError
from runtime.metadata import ImagePixels
from runtime.proposals import Proposals, filled, is_proposals
from runtime.samples import Feeds, read_samples
from runtime.session import Session

DEFAULT_BATCH = 32
# Pixels in a batch whose size is not given; larger images run one by one.
BATCH_PIXELS = 2**24

Skip = Callable[[Path, InputError], None]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a model beside the files.

    Attributes:
        top: how many classes to give for each row.
        score: the score that an object needs to be told, in 0…1.
        batch_size: how many rows to run at once; None for the model's own batch size, or 32 where any will do, fewer of
            large images. Rows of different shapes are never run together.
        proposals: the regions that the model takes beside an image.
    """

    top: int = 1
    score: float = 0.0
    batch_size: int | None = None
    proposals: Proposals | None = None


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one row of one file.

    Attributes:
        file: where the row came from.
        row: its number in that file, from 0.
        rows: how many rows the file has.
        image: the pixels that were given, uint8 [height, width, channels]; None where the model takes no pixels.
        answer: what the model says about it.
    """

    file: Path
    row: int
    rows: int
    image: np.ndarray | None
    answer: Answer


@dataclass(frozen=True)
class _Row:
    """One row of a file, without the batch dimension."""

    file: Path
    number: int
    of: int
    feeds: Feeds


def predict(
    session: Session, files: Iterable[Path], wanted: Wanted, skip: Skip | None = None
) -> Iterator[list[Prediction]]:
    """Runs the model on files and yields, batch by batch, a prediction for every row in order.

    Args:
        session: the model.
        files: images, ``.npy`` and ``.npz`` files; each is read when its turn comes.
        wanted: what is asked beside.
        skip: called with a file that cannot be predicted and the reason, after which the others go on; None to raise.

    Raises:
        InputError: a file cannot be read or does not fit the model, the model's batch size is another, or several
            classes are asked of a model that is no classifier.
    """
    if not session.inputs:
        raise InputError(f"{session.path} takes no input, so there is nothing to predict from files")
    if wanted.top > 1 and classifier_output(session) is None:
        raise InputError(
            f"more than one class cannot be told: {session.path} does not say that it is a classifier",
            help="a classifier has 'netspec.postprocess' in its metadata",
        )
    fixed = fixed_batch(session)
    if fixed is not None and wanted.batch_size not in (None, fixed):
        raise InputError(f"the model runs exactly {fixed} rows at a time, not {wanted.batch_size}")
    for batch in _batches(session, _rows(session, files, wanted, skip), wanted.batch_size or fixed):
        yield _answered(session, batch, fixed, wanted, skip)


def _pixel_input(session: Session) -> str | None:
    """The input that takes the pixels of an image as they are, None where there is none."""
    contracts = session.metadata.preprocess.items()
    return next((name for name, contract in contracts if isinstance(contract, ImagePixels)), None)


def _rows(session: Session, files: Iterable[Path], wanted: Wanted, skip: Skip | None) -> Iterator[_Row]:
    for file in files:
        try:
            feeds = read_samples(file, session, wanted.proposals)
        except InputError as error:
            if skip is None:
                raise
            skip(file, error)
            continue
        count = len(feeds[session.inputs[0].name])
        for number in range(count):
            yield _Row(file, number, count, {name: array[number] for name, array in feeds.items()})


def _batches(session: Session, rows: Iterable[_Row], size: int | None) -> Iterator[list[_Row]]:
    """The rows in order, in groups of at most `size` neighbours of equal shapes; the number of regions may differ."""
    pixels = _pixel_input(session)
    ragged = {spec.name for spec in session.inputs if is_proposals(spec)} if pixels else set()

    def shapes(row: _Row) -> list[tuple[int, ...]]:
        return [array.shape for name, array in row.feeds.items() if name not in ragged]

    for _, alike in itertools.groupby(rows, key=shapes):
        first = next(alike)
        height, width = first.feeds[pixels].shape[:2] if pixels else (1, 1)
        most = size or max(1, min(DEFAULT_BATCH, BATCH_PIXELS // max(height * width, 1)))
        alike = itertools.chain([first], alike)
        while batch := list(itertools.islice(alike, most)):
            yield batch


def _answered(
    session: Session, batch: list[_Row], fixed: int | None, wanted: Wanted, skip: Skip | None
) -> list[Prediction]:
    """The answers for a batch; when it fails, its rows are run one by one, to tell which of them is at fault."""
    try:
        return _run(session, batch, fixed or len(batch), wanted)
    except InputError as error:
        if len(batch) > 1:
            return [answer for row in batch for answer in _answered(session, [row], fixed, wanted, skip)]
        named = error if str(batch[0].file) in error.message else _about(batch[0], error)
        if skip is None:
            raise named from None
        skip(batch[0].file, named)
        return []


def _about(row: _Row, error: InputError) -> InputError:
    place = f"{row.file}, row {row.number}" if row.of > 1 else str(row.file)
    return InputError(f"{place}: {error.message}", error.help)


def _run(session: Session, batch: list[_Row], size: int, wanted: Wanted) -> list[Prediction]:
    """Runs a batch; a model of a fixed batch size gets the last row again until there are `size`."""
    rows = batch + batch[-1:] * (size - len(batch))
    feeds = {spec.name: _stacked([row.feeds[spec.name] for row in rows]) for spec in session.inputs}
    by_row = {name: split_rows(name, array, size) for name, array in session.run(feeds).items()}
    return [
        _prediction(session, row, {name: arrays[i] for name, arrays in by_row.items()}, wanted)
        for i, row in enumerate(batch)
    ]


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """The rows as one array; only lists of regions differ in length, and are filled up to the longest."""
    longest = max((len(row) for row in rows if row.ndim), default=0)
    return np.stack([row if not row.ndim or len(row) == longest else filled(row, longest) for row in rows])


def _prediction(session: Session, row: _Row, outputs: dict[str, np.ndarray], wanted: Wanted) -> Prediction:
    pixels = _pixel_input(session)
    image = row.feeds[pixels] if pixels else None
    return Prediction(row.file, row.number, row.of, image, answer_of(session, outputs, image, wanted.top, wanted.score))
