"""``netspec bench``: the best way to run a model on this machine."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from runtime.bench.measure import Job, Measured, measure
from runtime.bench.report import Findings, as_json, show
from runtime.bench.settings import Tried, batches, is_batched, ways
from runtime.cli.device_options import DEVICE_OPTIONS, take_options
from runtime.cli.options import Seconds, device_option, format_option, options
from runtime.engine_options import MAX_THREADS, Device, EngineOptions
from runtime.errors import DeviceError, InputError, UserError
from runtime.model_path import find_model
from runtime.probing import IMAGE_SIDE, probe
from runtime.providers import check_works, finds_nvidia
from runtime.session import Session
from runtime.tensors import TensorSpec

# Tensors of so many dimensions are taken for images.
IMAGE_RANK = 4

PASSES = 3


def read_shapes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The sizes of inputs by name, each written ``image=1x3x224x224``."""
    shapes = {}
    for value in values:
        name, _, sizes = value.rpartition("=")
        if not name or not all(size.isascii() and size.isdigit() and int(size) for size in sizes.split("x")):
            raise click.BadParameter(f"'{value}' is no shape; write NAME=1x3x224x224", ctx, param)
        shapes[name] = tuple(map(int, sizes.split("x")))
    return shapes


@click.command("bench", epilog="Example: netspec bench runs/demo/model.onnx --seconds 20")
@click.argument("model", type=click.Path(path_type=Path))
@device_option
@options(DEVICE_OPTIONS)
@click.option(
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    multiple=True,
    metavar="N",
    help="CPU threads of one run; may be given several times.  [default: 1, 2, 4, … one per core]",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 64),
    multiple=True,
    metavar="N",
    help="Runs at once; may be given several times.  [default: 1, and as many as there are cores for]",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 2**16),
    multiple=True,
    metavar="ROWS",
    help="Rows of a run; may be given several times.  [default: 1, 2, 4, 8, 16]",
)
@click.option(
    "--shape",
    multiple=True,
    callback=read_shapes,
    metavar="NAME=1x3x224x224",
    help="The shape of an input; the batch replaces its first size where that is free.  [default: images of 224 × 224]",
)
@click.option(
    "--seconds", type=Seconds(), default=30, show_default=True, metavar="S", help="How long to measure in all."
)
@format_option
def command(
    model: Path,
    threads: tuple[int, ...],
    instances: tuple[int, ...],
    batch: tuple[int, ...],
    shape: dict[str, tuple[int, ...]],
    seconds: float,
    style: str,
    **given: Any,
) -> None:
    """Find the threads, instances, batch and device that run MODEL best on this machine.

    MODEL is an .onnx file, or a directory that holds model.onnx. It is run on random numbers by ONNX Runtime alone,
    without a server. The device auto tries the CPU and, where it works, CUDA; TensorRT is tried when it is named.
    """
    path, asked = find_model(model), take_options(EngineOptions, given)
    tried = Tried(threads, instances, batch)
    started = time.monotonic()
    # a look at the model before much is started: a model that can't be loaded or run is told at once
    session = Session(path, EngineOptions("cpu", threads=1))
    feeds = _feeds(session, shape)
    if batch and not is_batched(session.inputs):
        raise InputError(f"the batch of {path} is fixed: --batch has no meaning for it")
    sizes = batches(session.inputs, tried)
    del session
    shapes = {name: array.shape for name, array in feeds.items()}
    devices, notes = _devices(asked)
    jobs = [Job(path, way, sizes, shapes, 0.0) for device in devices for way in ways(asked, device, tried)]
    rows, left_out = _measure(jobs, started + seconds, notes)
    findings = Findings(path, asked, shapes, bool(sizes), rows, left_out, notes)
    if style == "json":
        click.echo(as_json(findings))
    else:
        show(findings)


def _feeds(session: Session, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """What the model is run on, one row; raises InputError when the shapes are wrong or too few."""
    specs = {spec.name: spec for spec in session.inputs}
    for name, shape in shapes.items():
        if name not in specs:
            raise InputError(f"--shape names the input '{name}'; the model has {', '.join(map(repr, specs))}")
        if not specs[name].fits(shape):
            raise InputError(f"--shape gives '{name}' as {list(shape)}, but it is {specs[name]}")
    told = session.metadata.preprocess
    untold = [spec for spec in session.inputs if spec.name not in told]
    images = {spec.name: _image_shape(spec) for spec in untold if len(spec.shape) == IMAGE_RANK}
    if not specs:
        raise InputError(f"{session.path} takes no input, so there is nothing to measure with")
    feeds = probe(session, 1, np.random.default_rng(0), images | shapes)
    if not feeds:
        listed = ", ".join(f"'{name}' {spec}" for name, spec in specs.items())
        raise InputError(
            f"the model leaves sizes free: {listed}", help="say them with --shape NAME=1x3x224x224, for each input"
        )
    session.run(feeds)
    return feeds


def _image_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of one image, with a usual side in the place of each size that is free."""
    return tuple(size if isinstance(size, int) else IMAGE_SIDE for size in spec.shape)


def _devices(asked: EngineOptions) -> tuple[list[Device], list[str]]:
    """The devices to try, and a note on one that was not asked for by name and does not work."""
    if asked.device != "auto":
        check_works(asked.device, asked)
        return [asked.device], []
    if not finds_nvidia():
        return ["cpu"], ["there is no CUDA device"]
    try:
        check_works("cuda", asked)
    except DeviceError as error:
        return ["cpu"], [error.message]
    return ["cpu", "cuda"], []


def _measure(jobs: Sequence[Job], end: float, notes: list[str]) -> tuple[list[Measured], int]:
    """Measures the jobs until the time `end`, a share of it for each; and how many settings there was no time for.

    Each is measured in several passes, every other in reverse order, and its best time counts: what else a machine does
    comes and goes, and can only slow a run down. A way to load the model that fails is noted, and raised if all fail. A
    bar on a terminal tells how far it is.
    """
    best: dict[tuple[EngineOptions, int], Measured] = {}
    failed: dict[EngineOptions, UserError] = {}
    passes = [job for number in range(PASSES) for job in jobs[:: -1 if number % 2 else 1]]
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for position in progress.track(range(len(passes)), description="measuring"):
            left = end - time.monotonic()
            if left <= 0 and best:
                break
            job = replace(passes[position], seconds=max(left, 0.0) / (len(passes) - position))
            if job.options in failed:
                continue
            try:
                for row in measure(job):
                    key = (job.options, row.batch)
                    best[key] = max(row, best.get(key, row), key=lambda row: row.rows_per_second)
            except UserError as error:
                failed[job.options] = error
    if not best:
        raise next(iter(failed.values()))
    for loaded, failure in failed.items():
        way = f"{loaded.device}, threads {loaded.threads_of_a_run}, instances {loaded.instances}"
        notes.append(f"{way}: {failure.message}")
    order = {job.options: place for place, job in enumerate(jobs)}
    wanted = sum(max(len(job.batches), 1) for job in jobs if job.options not in failed)
    left_out = wanted - sum(way not in failed for way, _ in best)
    return [best[key] for key in sorted(best, key=lambda key: (order[key[0]], key[1]))], left_out
