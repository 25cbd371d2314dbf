"""How ``netspec predict`` tells what it found: as a table for people, or as JSON."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from runtime.prediction import Prediction
from runtime.session import Session
from runtime.tensors import describe, type_name

# Longer arrays are shown by their first and last values.
SHOWN_VALUES = 12
# Beyond any real line: a table that goes into a file or a pipe is never cut off at some terminal's width.
UNLIMITED_WIDTH = 100_000


def as_json(session: Session, predictions: Sequence[Prediction]) -> str:
    """One JSON object: ``{"model", "device", "device_reason", "predictions": [{"file", "row", …}]}``.

    A classifier's prediction has ``label``, ``index``, ``probability`` and the list ``top``; any other has ``outputs``:
    by name, ``{"dtype", "shape", "data"}`` with nested lists, where null stands for NaN and infinity.
    """
    report = {
        "model": click.format_filename(session.path),
        "device": session.device,
        "device_reason": session.device_reason,
        "predictions": [_record(prediction) for prediction in predictions],
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def _record(prediction: Prediction) -> dict[str, Any]:
    record: dict[str, Any] = {"file": click.format_filename(prediction.file), "row": prediction.row}
    if prediction.top is None:
        record["outputs"] = {
            name: {"dtype": type_name(array.dtype), "shape": list(array.shape), "data": array.tolist()}
            for name, array in prediction.outputs.items()
        }
    else:
        candidates = [
            {"label": candidate.label, "index": candidate.index, "probability": candidate.probability}
            for candidate in prediction.top
        ]
        record |= candidates[0]
        record["top"] = candidates
    return record


def show_text(session: Session, predictions: Sequence[Prediction]) -> None:
    """Prints a line about the model and its device, and a table with a row for every class or output told."""
    console = Console(width=None if sys.stdout.isatty() else UNLIMITED_WIDTH, highlight=False)
    about = f"{click.format_filename(session.path)} on {session.device} ({session.device_reason})"
    console.print(Text(about, style="dim"))
    classes = any(prediction.top is not None for prediction in predictions)
    if classes:
        table = Table("file", "label", Column("probability", justify="right"))
    else:
        table = Table("file", "output", "shape", "values")
    for prediction in predictions:
        file = _place(prediction)
        for cells in _class_cells(prediction) if classes else _output_cells(prediction):
            table.add_row(*(Text(cell, overflow="fold") for cell in (file, *cells)))
            file = ""
    console.print(table)


def _place(prediction: Prediction) -> str:
    """The file, and the number of the row where the file has several."""
    file = click.format_filename(prediction.file)
    return file if prediction.rows == 1 else f"{file}[{prediction.row}]"


def _class_cells(prediction: Prediction) -> list[tuple[str, ...]]:
    return [(candidate.label, f"{candidate.probability:.2%}") for candidate in prediction.top or ()]


def _output_cells(prediction: Prediction) -> list[tuple[str, ...]]:
    return [(name, describe(array), _values(array)) for name, array in prediction.outputs.items()]


def _values(array: np.ndarray) -> str:
    flat = array.ravel()
    if array.dtype.hasobject:
        flat = flat.astype(str)
    return np.array2string(flat, precision=4, threshold=SHOWN_VALUES, max_line_width=UNLIMITED_WIDTH)
