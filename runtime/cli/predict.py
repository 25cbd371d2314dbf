"""``netspec predict``: what a model says about files."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from runtime.cli.options import device_option, threads_option
from runtime.engine import Device
from runtime.model_path import find_model
from runtime.prediction import Candidate, Prediction, predict
from runtime.session import Session

PROGRESS_AFTER = 1.0  # seconds without a progress bar
BAR_WIDTH = 20


@click.command("predict", short_help="Say what a model sees in images or arrays.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Classes to show for each row.  [default: 1]")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Rows to run at once.  [default: the model's, or 32]"
)
@device_option
@threads_option
def command(
    model: Path,
    files: tuple[Path, ...],
    top: int | None,
    style: str,
    batch_size: int | None,
    device: Device,
    threads: int | None,
) -> None:
    """Say what MODEL sees in FILES.

    MODEL is an .onnx file, or a directory that holds a model.onnx. FILES are images, or arrays of rows as .npy or .npz
    (one array for each input, by name). Exits with 1 when a file or the model cannot be used.
    """
    path, _ = find_model(model)
    session = Session(path, device, threads)
    predictions = list(_with_progress(session, files, top or 1, batch_size))
    if style == "json":
        click.echo(json.dumps(_document(path, session, predictions), indent=2, allow_nan=False))
    else:
        _print_table(session, predictions, several=top is not None and top > 1)


def _with_progress(session: Session, files: tuple[Path, ...], top: int, batch_size: int | None) -> Iterator[Prediction]:
    """Yields the predictions, and shows on a terminal how many files are done once that takes over a second."""
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("predicting", total=len(files))
    started = time.monotonic()
    try:
        for batch in predict(session, files, top, batch_size):
            yield from batch
            progress.update(task, completed=files.index(batch[-1].file))
            if time.monotonic() - started > PROGRESS_AFTER:
                progress.start()
    finally:
        progress.stop()


def _document(path: Path, session: Session, predictions: list[Prediction]) -> dict[str, Any]:
    return {
        "model": str(path),
        "device": session.device,
        "predictions": [_entry(prediction) for prediction in predictions],
    }


def _entry(prediction: Prediction) -> dict[str, Any]:
    place = {"file": str(prediction.file), "row": prediction.row}
    if prediction.top is None:
        return place | {"outputs": {name: _values(array) for name, array in prediction.outputs.items()}}
    return place | _class_entry(prediction.top[0]) | {"top": [_class_entry(candidate) for candidate in prediction.top]}


def _class_entry(candidate: Candidate) -> dict[str, Any]:
    return {"label": candidate.label, "index": candidate.index, "probability": candidate.probability}


def _values(array: np.ndarray) -> dict[str, Any]:
    """The shape and the values of an array, flat in row-major order; JSON has no NaN or infinity, so null stands for them."""
    flat = array.ravel()
    values = flat.tolist()
    if flat.dtype.kind == "f":
        values = [value if finite else None for value, finite in zip(values, np.isfinite(flat), strict=True)]
    return {"shape": list(array.shape), "values": values}


def _print_table(session: Session, predictions: list[Prediction], several: bool) -> None:
    table = Table(caption=f"on {session.device} ({session.device_reason})", caption_justify="left")
    table.add_column("file", overflow="fold")
    if predictions[0].top is None:
        for column in ("output", "shape", "values"):
            table.add_column(column, overflow="fold")
        for prediction in predictions:
            for name, array in prediction.outputs.items():
                table.add_row(_place(prediction), Text(name), str(list(array.shape)), _abridged(array))
    else:
        table.add_column("label", overflow="fold")
        table.add_column("probability", justify="right", no_wrap=True)
        table.add_column("", width=BAR_WIDTH, no_wrap=True)
        for prediction in predictions:
            for place, candidate in enumerate(prediction.top or ()):
                shown = _place(prediction) if place == 0 else Text()
                table.add_row(shown, Text(candidate.label), f"{candidate.probability:.1%}", _bar(candidate.probability))
            if several:
                table.add_section()
    Console().print(table)


def _place(prediction: Prediction) -> Text:
    """The file and, for rows of an array, the row; as Text, since a file name may look like rich's markup."""
    row = f"[{prediction.row}]" if prediction.file.suffix.lower() in (".npy", ".npz") else ""
    return Text(f"{prediction.file}{row}")


def _bar(share: float) -> str:
    return "█" * round(share * BAR_WIDTH)


def _abridged(array: np.ndarray) -> str:
    """The values of an array in a few words: all of a short one, else the first and last with dots between."""
    return np.array2string(array.ravel(), precision=4, threshold=8, edgeitems=3, separator=", ")
