"""``netspec predict``: what a model says about files."""

import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from runtime.cli.options import device_option, threads_option
from runtime.cli.prediction_report import as_json, show_text
from runtime.engine import Device
from runtime.model_path import find_model
from runtime.output_file import check_place, write_outputs
from runtime.prediction import Prediction, predict
from runtime.session import Session

# A bar that comes and goes at once only flickers.
SECONDS_WITHOUT_BAR = 1.0


@click.command("predict", epilog="Example: netspec predict runs/demo/model.onnx digit.png")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, metavar="FILES...")
@device_option
@threads_option
@click.option(
    "--top", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Classes to tell for each row."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A table for people, or JSON.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rows to run at once.  [default: the model's own, or 32]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Also write the model's raw outputs here."
)
def command(
    model: Path,
    files: tuple[Path, ...],
    device: Device,
    threads: int | None,
    top: int,
    style: str,
    batch_size: int | None,
    output: Path | None,
) -> None:
    """Say what MODEL sees in FILES.

    MODEL is an .onnx file, or a directory that holds model.onnx. FILES are images, or arrays of rows: .npy, or .npz
    with an array for each input.
    """
    if not files:
        raise click.UsageError("name FILES to predict after the model: images, .npy or .npz")
    if output is not None:
        check_place(output)
    session = Session(find_model(model), device, threads)
    predictions = _with_progress(session, files, top, batch_size)
    if output is not None:
        write_outputs(output, predictions)
    if style == "json":
        click.echo(as_json(session, predictions))
    else:
        show_text(session, predictions)


def _with_progress(session: Session, files: Sequence[Path], top: int, batch_size: int | None) -> list[Prediction]:
    """All predictions; on a terminal a bar tells how many files were read, once that takes longer than a moment."""
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    started = time.monotonic()
    predictions: list[Prediction] = []
    try:
        for batch in predict(session, progress.track(files, description="predicting"), top, batch_size):
            predictions += batch
            if time.monotonic() - started > SECONDS_WITHOUT_BAR:
                progress.start()
    finally:
        progress.stop()
    return predictions
