"""`netspec evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import torch
from rich.console import Console
from rich.progress import track

from compiler.batches import Batch, Data
from compiler.cli.common import choose_device, told
from compiler.cli.sources import Found, find_source
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.evaluation.detection import coco_results, coco_truth
from compiler.evaluation.exported import served_outputs
from compiler.files import whole_file, write_text
from compiler.module import build
from compiler.targets import check_same_classes
from compiler.tasks.base import Evaluation, Task
from compiler.tasks.choosing import task_of
from compiler.tasks.detection import Detected, Detection
from compiler.weights import fitting_weights
from netspec.cli.common import set_option
from netspec.cli.tables import show_table
from netspec.data_choices import OnError
from netspec.deployed import takes_pixels


@click.command(epilog="Example: netspec evaluate runs/ssd --coco results.json")
@click.argument("source", metavar="RUN|SPEC")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A .safetensors file or a PyTorch checkpoint. Default: the run's best.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), help="Measure this exported file, in ONNX Runtime, and not the weights."
)
@set_option
@click.option("--coco", type=click.Path(path_type=Path), help="Write what was found, as COCO's results.")
@click.option(
    "--coco-truth",
    "truth",
    type=click.Path(path_type=Path),
    help="Write the truth that it is numbered by, as a COCO data set.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Write a few images as PNG, with what was found beside the truth.",
)
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    help="What to do with images that can't be used; the same as --set train.data.on_error=….",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Default: auto.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@told
def command(
    source: str,
    weights: Path | None,
    model: Path | None,
    settings: tuple[str, ...],
    coco: Path | None,
    truth: Path | None,
    picture: Path | None,
    on_error: OnError | None,
    device: str,
    form: str,
) -> None:
    """Measure a training RUN, or SPEC with --weights or --model, on the held-out part of its data.

    Other data are named by --set train.data=….
    """
    if on_error is not None:
        settings = (*settings, f"train.data.on_error={on_error}")
    found = find_source(source, settings, weights, changes=True)
    recipe = found.network.sections.get("train")
    if recipe is None:
        raise CompilerError(f"`{found.network.file}` has no `train` section, which names the data")
    if found.weights is None and model is None:
        raise CompilerError("a spec has no weights of its own", "name a run, or give --weights or --model")
    data = load_data(found.network, recipe.data, found.home)
    check_same_classes("the run", found.labels, data.labels)
    task = task_of(found.network, data.labels)
    if not isinstance(task, Detection) and (coco or truth or model):
        raise CompilerError("--coco, --coco-truth and --model are for detectors", "leave them out")
    batches = _batches(data, max(recipe.numbers.batch_size, task.evaluation_batch))
    with torch.inference_mode():
        if model is not None:
            assert isinstance(task, Detection)
            evaluation: Evaluation = task.judged(
                served_outputs(model, found.network, batches), placed=takes_pixels(found.network)
            )
        else:
            evaluation = _of_weights(found, task, batches, choose_device(device))
    if isinstance(evaluation, Detected):
        _write_coco(evaluation, coco, truth)
    drawn = evaluation.picture() if picture else None
    if picture and drawn:
        with whole_file(picture) as temporary:
            drawn.save(temporary, format="PNG")
    _show(task, evaluation, len(data.test), form)
    for name, why in data.skipped.items():
        click.echo(f"left out: {name}: {why}", err=True)


def _batches(data: Data, size: int) -> Iterator[Batch]:
    """The held-out samples, with a progress bar where there is a terminal."""
    console = Console(stderr=True)
    pieces = torch.split(torch.arange(len(data.test)), size)
    shown = track(pieces, "held out", console=console, transient=True, disable=not console.is_terminal)
    seen = 0
    for indices in shown:
        batch = data.test.batch(indices)
        seen += len(batch)
        if len(batch):
            yield batch
    if not seen:
        raise CompilerError("none of the held-out samples can be read")


def _of_weights(found: Found, task: Task, batches: Iterator[Batch], device: torch.device) -> Evaluation:
    assert found.weights is not None
    module = build(found.network, weights=fitting_weights(found.network, found.weights)).to(device).eval()
    torch.manual_seed(found.network.sections["train"].numbers.seed)
    return task.evaluate(module, (batch.to(device) for batch in batches))


def _write_coco(evaluation: Detected, results: Path | None, truth: Path | None) -> None:
    if results is not None:
        write_text(results, json.dumps(coco_results(evaluation.found)) + "\n")
    if truth is not None:
        write_text(truth, json.dumps(coco_truth(evaluation.found, evaluation.labels), ensure_ascii=False) + "\n")


def _show(task: Task, evaluation: Evaluation, samples: int, form: str) -> None:
    if form == "json":
        click.echo(json.dumps(evaluation.facts(), indent=2, ensure_ascii=False))
        return
    click.echo(f"{samples:,} held-out samples: {task.shown(evaluation.values)}")
    table = evaluation.table()
    if table is not None:
        show_table(table.headings, table.rows, table.headings[1:])
