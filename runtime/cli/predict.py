"""``netspec predict``: what a model says about files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from runtime.answering.drawing import draw_answer
from runtime.answering.image_input import takes_pixels
from runtime.cli.options import device_option, threads_option
from runtime.cli.prediction_report import CocoReport, JsonReport, Report, TextReport
from runtime.coco import AnnotatedIds, NumberedIds, check_run_lengths
from runtime.engine_options import Device, EngineOptions
from runtime.errors import InputError
from runtime.gallery import Gallery
from runtime.model_path import find_model
from runtime.output_file import check_place, write_outputs
from runtime.prediction import Prediction, Wanted, predict
from runtime.proposals import Proposals, is_proposals
from runtime.session import Session
from runtime.task import Detection

# A bar that comes and goes at once only flickers.
SECONDS_WITHOUT_BAR = 1.0
# Endings that say what a .npz file is not.
OTHER_FORMATS = {".csv", ".h5", ".json", ".npy", ".onnx", ".pkl", ".png", ".pt", ".pth", ".safetensors", ".txt"}


def _check_ending(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuses as wrong usage a file whose ending says another format than what is written."""
    if path is not None and path.suffix.lower() in OTHER_FORMATS:
        name = click.format_filename(path.with_suffix(".npz"))
        why = f"a NumPy archive is written, and {path.suffix} says another format; name it {name}"
        raise click.BadParameter(why, context, option)
    return path


@click.command("predict", epilog="Example: netspec predict runs/demo/model.onnx digit.png")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, metavar="FILES...")
@device_option
@threads_option
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Classes to tell for each row.  [default: 1]")
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    metavar="S",
    help="Tell only objects with at least this score.  [default: 0]",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "coco"]),
    default="text",
    show_default=True,
    help="A table for people, JSON, or a COCO results list.",
)
@click.option(
    "--coco-images",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="A COCO annotation file: the ids of images and categories for --format coco.",
)
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also draw boxes or masks on the images, as PNG files in this directory.",
)
@click.option(
    "--proposals",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Regions to look at in each image, for models that take them: an array of boxes for each file's name.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rows to run at once.  [default: the model's own, or 32, fewer of large images]",
)
@click.option(
    "--on-error",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="Whether a file that cannot be predicted ends the command, or is told and left out (exit code 1).",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    callback=_check_ending,
    metavar="FILE.npz",
    help="Also write the model's raw outputs here.",
)
def command(
    model: Path,
    files: tuple[Path, ...],
    device: Device,
    threads: int | None,
    top: int | None,
    score: float | None,
    style: str,
    coco_images: Path | None,
    draw: Path | None,
    proposals: Path | None,
    batch_size: int | None,
    on_error: str,
    output: Path | None,
) -> None:
    """Say what MODEL sees in FILES.

    MODEL is an .onnx file, or a directory that holds model.onnx. FILES are images, or arrays of rows: .npy, or .npz
    with an array for each input.
    """
    if not files:
        raise click.UsageError("name FILES to predict after the model: images, .npy or .npz")
    if coco_images is not None and style != "coco":
        raise click.UsageError("--coco-images goes with --format coco")
    if output is not None:
        check_place(output)
    session = Session(find_model(model), EngineOptions(device, threads))
    _check_options(session, top=top, score=score, draw=draw, proposals=proposals)
    report = _report(session, style, files, coco_images)
    gallery = None if draw is None else Gallery(draw, files)
    wanted = Wanted(top or 1, score or 0.0, batch_size, None if proposals is None else Proposals(proposals))
    skipped: dict[Path, InputError] | None = {} if on_error == "skip" else None
    kept: list[Mapping[str, np.ndarray]] = []
    for prediction in _with_progress(session, files, wanted, skipped):
        report.add(prediction, None if gallery is None else _draw(gallery, prediction))
        if output is not None:
            kept.append(prediction.answer.outputs)
    if output is not None and kept:
        write_outputs(output, kept)
    report.show()
    if skipped:
        nothing = f"; {click.format_filename(output)} is not written" if output is not None and not kept else ""
        click.echo(f"skipped {len(skipped)} of {len(set(files))} files{nothing}", err=True)
        raise click.exceptions.Exit(1)


def _check_options(
    session: Session, *, top: int | None, score: float | None, draw: Path | None, proposals: Path | None
) -> None:
    """Raises InputError when an option has no meaning for the model."""
    task = session.metadata.task
    if top is not None and task is not None:
        raise InputError(
            f"--top is for classifiers, and {session.path} tells what is where in an image",
            help="--score leaves out objects that are not sure" if isinstance(task, Detection) else None,
        )
    if score is not None and not isinstance(task, Detection):
        raise InputError(f"--score is for detectors, and {session.path} is none: it gives no boxes with scores")
    if draw is not None and (task is None or not takes_pixels(session)):
        raise InputError(
            f"nothing can be drawn: {session.path} does not take an image's pixels and give boxes or a mask",
            help="such a model is exported from a spec with `deploy.net`",
        )
    if proposals is not None and (len(session.inputs) < 2 or not any(map(is_proposals, session.inputs))):
        raise InputError(f"{session.path} takes no regions beside an image: --proposals has no meaning for it")


def _report(session: Session, style: str, files: Sequence[Path], coco_images: Path | None) -> Report:
    if style == "json":
        return JsonReport(session)
    if style == "text":
        return TextReport(session)
    task = session.metadata.task
    if task is None:
        raise InputError(f"COCO results are boxes or masks, and {session.path} gives neither")
    if not isinstance(task, Detection):
        check_run_lengths()
    return CocoReport(NumberedIds(files) if coco_images is None else AnnotatedIds(coco_images, session.metadata.labels))


def _draw(gallery: Gallery, prediction: Prediction) -> Path:
    """Draws what was found in an image, and returns where."""
    assert prediction.image is not None  # `_check_options` saw to it
    picture = draw_answer(prediction.image, prediction.answer)
    name = prediction.file.stem if prediction.rows == 1 else f"{prediction.file.stem}-{prediction.row}"
    return gallery.add(name, picture)


def _with_progress(
    session: Session, files: Sequence[Path], wanted: Wanted, skipped: dict[Path, InputError] | None
) -> Iterator[Prediction]:
    """The predictions; on a terminal a bar tells how many files were read, once that takes longer than a moment.

    Files that cannot be predicted are told, and kept in `skipped`, unless that is None.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    started = time.monotonic()

    def skip(file: Path, error: InputError) -> None:
        assert skipped is not None
        skipped.setdefault(file, error)
        progress.console.print(Text("skipped: ", style="yellow") + Text(error.message))

    reading = progress.track(files, description="predicting")
    try:
        for batch in predict(session, reading, wanted, None if skipped is None else skip):
            yield from batch
            if time.monotonic() - started > SECONDS_WITHOUT_BAR:
                progress.start()
    finally:
        progress.stop()
