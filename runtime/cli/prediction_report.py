"""How ``netspec predict`` tells what it found: as a table for people, as JSON, or as COCO results."""

import sys
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from runtime.answering.answer import classifier_output
from runtime.answering.objects import Found
from runtime.answering.records import record_of
from runtime.coco import Ids, results
from runtime.prediction import Prediction
from runtime.session import Session
from runtime.task import Detection
from runtime.tensors import describe

# Longer arrays are shown by their first and last values.
SHOWN_VALUES = 12
# Beyond any real line: a table that goes into a file or a pipe is never cut off at some terminal's width.
UNLIMITED_WIDTH = 100_000


class Report(Protocol):
    """Takes predictions one by one, and shows them all at the end."""

    def add(self, prediction: Prediction, picture: Path | None) -> None:
        """Takes a prediction, and where it was drawn."""

    def show(self) -> None:
        """Prints what was taken to stdout."""


class JsonReport:
    """One JSON object: ``{"model", "device", "device_reason", "predictions": [{"file", "row", …}]}``.

    `runtime.answering.records` says what stands for the answer. Where an image was drawn, ``picture`` is the file.
    """

    def __init__(self, session: Session) -> None:
        self._report = {
            "model": click.format_filename(session.path),
            "device": session.device,
            "device_reason": session.device_reason,
        }
        self._records: list[dict[str, Any]] = []

    def add(self, prediction: Prediction, picture: Path | None) -> None:
        drawn = {} if picture is None else {"picture": click.format_filename(picture)}
        self._records.append(_record(prediction) | drawn)

    def show(self) -> None:
        report = {**self._report, "predictions": self._records}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def _record(prediction: Prediction) -> dict[str, Any]:
    record: dict[str, Any] = {"file": click.format_filename(prediction.file), "row": prediction.row}
    if prediction.image is not None:
        record["height"], record["width"] = prediction.image.shape[:2]
    return record | record_of(prediction.answer)


class CocoReport:
    """A COCO results list, as `runtime.coco` says."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._results: list[dict[str, Any]] = []

    def add(self, prediction: Prediction, picture: Path | None) -> None:
        self._results += results(prediction, self._ids)

    def show(self) -> None:
        click.echo(orjson.dumps(self._results).decode())


class TextReport:
    """A line about the model and its device, and a table with a row for every class, object or output told."""

    def __init__(self, session: Session) -> None:
        about = f"{click.format_filename(session.path)} on {session.device} ({session.device_reason})"
        self._about = Text(about, style="dim")
        task = session.metadata.task
        if isinstance(task, Detection):
            sides = (Column(side, justify="right") for side in ("left", "top", "right", "bottom"))
            self._table = Table("file", "label", Column("score", justify="right"), *sides)
        elif task is not None:
            self._table = Table("file", "class", Column("pixels", justify="right"), Column("share", justify="right"))
        elif classifier_output(session) is not None:
            self._table = Table("file", "label", Column("probability", justify="right"))
        else:
            self._table = Table("file", "output", "shape", "values")
        self._pictures: list[Path] = []

    def add(self, prediction: Prediction, picture: Path | None) -> None:
        file = _place(prediction)
        for cells in _cells(prediction):
            self._table.add_row(*(Text(cell, overflow="fold") for cell in (file, *cells)))
            file = ""
        if picture is not None:
            self._pictures.append(picture)

    def show(self) -> None:
        console = Console(width=None if sys.stdout.isatty() else UNLIMITED_WIDTH, highlight=False)
        console.print(self._about)
        console.print(self._table)
        if self._pictures:
            count = f"{len(self._pictures)} picture{'s' if len(self._pictures) > 1 else ''}"
            console.print(Text(f"{count} in {click.format_filename(self._pictures[0].parent)}"))


def _place(prediction: Prediction) -> str:
    """The file, and the number of the row where the file has several."""
    file = click.format_filename(prediction.file)
    return file if prediction.rows == 1 else f"{file}[{prediction.row}]"


def _cells(prediction: Prediction) -> list[tuple[str, ...]]:
    """The rows of one prediction, without the file."""
    answer = prediction.answer
    if answer.top is not None:
        return [(candidate.label, f"{candidate.probability:.2%}") for candidate in answer.top]
    if answer.found is not None:
        return [_object_cells(one) for one in answer.found] or [("nothing found",)]
    if answer.mask is not None:
        return [(region.label, f"{region.pixels:,}", f"{region.share:.2%}") for region in answer.mask.regions]
    return [(name, describe(array), _values(array)) for name, array in answer.outputs.items()]


def _object_cells(found: Found) -> tuple[str, ...]:
    return (found.label, f"{found.score:.3f}", *(f"{edge:.1f}" for edge in found.box))


def _values(array: np.ndarray) -> str:
    flat = array.ravel()
    if array.dtype.hasobject:
        flat = flat.astype(str)
    return np.array2string(flat, precision=4, threshold=SHOWN_VALUES, max_line_width=UNLIMITED_WIDTH)
