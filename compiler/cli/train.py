"""`netspec train`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from compiler.cli.common import choose_device, spec_folder, told
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.module import build
from compiler.report import write_report
from compiler.run_directory import (
    CHECKPOINT,
    clear_run,
    is_run,
    read_facts,
    restore,
    save_checkpoint,
    save_epoch,
    start_run,
)
from compiler.training import Hooks, Metrics, Run, train
from compiler.weights import fitting_weights
from netspec.cli.common import load_or_exit, set_option
from netspec.cli.interrupts import INTERRUPTED
from netspec.diagnostics import nearest
from netspec.network import Network

REFRESH_SECONDS = 0.1


@click.command(epilog="Example: netspec train resnet --out runs/resnet --epochs 5")
@click.argument("spec")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder that the run leaves its files in."
)
@set_option
@click.option("--epochs", type=click.IntRange(1), help="The same as --set train.epochs=….")
@click.option("--resume", is_flag=True, help="Go on with the run in --out where it stopped.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights, not from random ones.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Default: auto.")
@click.option("--amp", type=click.Choice(["bf16", "fp16"]), help="Mixed precision, on CUDA.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard files into the run's folder too.")
@told
def command(
    spec: str,
    out: Path,
    settings: tuple[str, ...],
    epochs: int | None,
    resume: bool,
    overwrite: bool,
    weights: Path | None,
    device: str,
    amp: Any,
    tensorboard: bool,
) -> None:
    """Train SPEC on the data that its `train` section names.

    Ctrl-C saves and stops; --resume goes on from there, and also after a crash.
    """
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run, --overwrite replaces it: give one of the two")
    if epochs is not None:
        settings = (*settings, f"train.epochs={epochs}")
    network = load_or_exit(spec, settings)
    recipe = network.sections.get("train")
    if recipe is None:
        raise CompilerError(f"`{network.file}` has no `train` section", "add `train: {data: …, loss: …, optimizer: …}`")
    chosen = choose_device(device)
    if amp and chosen.type != "cuda":
        raise CompilerError(f"--amp {amp} needs CUDA, the device is {chosen.type}", "leave --amp out")
    _prepare(out, network, settings, resume, overwrite)
    torch.manual_seed(recipe.numbers.seed)
    data = load_data(network, recipe.data, spec_folder(network.file))
    begun_with = fitting_weights(network, weights) if weights is not None else None
    module = build(network, recipe.numbers.seed, begun_with)
    weights_of_others = tuple(recipe.numbers.auxiliary[name] for name in [*network.outputs][1:])
    run = Run(module, data, recipe, chosen, amp, weights_of_others)
    resumed = resume and restore(out, run)
    if not resumed:
        clear_run(out)
        start_run(out, network, settings, data.labels)
    console = Console(highlight=False, soft_wrap=True)
    _announce(console, network, run, out, resumed)
    writer = _tensorboard(out, run) if tensorboard else None
    with _interruptible() as interrupted, _Display(console, run) as display:

        def after_epoch(run: Run, is_best: bool) -> None:
            save_epoch(out, run, is_best)
            display.epoch(run.state.history[-1], is_best)
            if writer:
                _write_tensorboard(writer, run.state.history[-1])

        finished = train(run, Hooks(display.step, after_epoch, lambda run: save_checkpoint(out, run), interrupted))
    if writer:
        writer.close()
    if not finished:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        again = shlex.join(["netspec", *words, "--resume"])
        console.print(f"interrupted; saved in {out}. Go on with: {again}")
        sys.exit(INTERRUPTED)
    write_report(out, network, run)
    last = run.state.history[-1]
    if last.test_accuracy is not None:
        console.print(f"held-out accuracy {last.test_accuracy:.2%} (last epoch); report: {out / 'report.md'}")
    else:
        console.print(f"held-out loss {last.test_loss:.4f} (last epoch); report: {out / 'report.md'}")


def _prepare(out: Path, network: Network, settings: tuple[str, ...], resume: bool, overwrite: bool) -> None:
    """Sees to it that the folder is free, or holds the very run that is to go on."""
    if out.exists() and not out.is_dir():
        raise CompilerError(f"`{out}` is a file, not a folder")
    if not is_run(out):
        if resume:
            runs = [path.name for path in out.parent.glob("*") if is_run(path)]
            near = nearest(out.name, runs)
            help = f"did you mean `{out.with_name(near)}`?" if near else "leave --resume out to begin a run there"
            raise CompilerError(f"`{out}` holds no run that could go on", help)
        return
    if overwrite:
        return  # its files go when all that the new run needs is there
    if not resume:
        state = "a run" if (out / CHECKPOINT).exists() else "the beginning of a run"
        raise CompilerError(f"`{out}` holds {state} already", "go on with --resume, replace it with --overwrite")
    before = (out / "spec.yaml").read_text(encoding="utf-8"), read_facts(out)["settings"]
    if before != (network.text, list(settings)):
        what = "spec" if before[0] != network.text else "settings"
        raise CompilerError(
            f"the run in `{out}` was started with other {what}",
            "resume with the same spec and settings"
            + (f": {' '.join(f'--set {setting}' for setting in before[1])}" if before[1] else "")
            + ", or use another --out",
        )


def _announce(console: Console, network: Network, run: Run, out: Path, resumed: bool) -> None:
    epochs = run.recipe.numbers.epochs
    if run.state.epoch == epochs:
        console.print(f"the run in {out} is finished: epoch {epochs} of {epochs}")
        return
    where = f"from epoch {run.state.epoch + 1}, step {run.state.step + 1}" if resumed else f"for {epochs} epochs"
    console.print(
        f"training {network.name} {where}: {network.parameters():,} parameters, {len(run.data.train):,} samples, "
        f"{len(run.data.test):,} held out, {run.device.type} → {out}"
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[Any]:
    """Turns Ctrl-C and SIGTERM into a question that the loop asks after every step; a second Ctrl-C ends at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """A progress bar with loss, accuracy and samples a second; below it, or without a terminal, a line an epoch."""

    def __init__(self, console: Console, run: Run) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        total = run.recipe.numbers.epochs * run.steps_per_epoch
        self.shown = 0.0  # when the numbers were last brought up to date
        self.task = self.progress.add_task("", total=total, epoch="1", numbers="")

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, run: Run) -> None:
        if time.monotonic() - self.shown < REFRESH_SECONDS:
            return
        self.shown = time.monotonic()
        loss, right, count = run.state.sums
        accuracy = f" · accuracy {right / count:.1%}" if run.classifies else ""
        speed = self.progress.tasks[0].speed
        samples = f" · {speed * run.recipe.numbers.batch_size:,.0f} samples/s" if speed else ""
        self.progress.update(
            self.task,
            completed=run.state.epoch * run.steps_per_epoch + run.state.step,
            epoch=f"{run.state.epoch + 1}/{run.recipe.numbers.epochs}",
            numbers=f"loss {loss / count:.4f}{accuracy}{samples}",
        )

    def epoch(self, metrics: Metrics, is_best: bool) -> None:
        accuracy = f", accuracy {metrics.train_accuracy:.2%}" if metrics.train_accuracy is not None else ""
        held_out = f", accuracy {metrics.test_accuracy:.2%}" if metrics.test_accuracy is not None else ""
        self.console.print(
            f"epoch {metrics.epoch + 1:>3}: loss {metrics.train_loss:.4f}{accuracy}; held out: loss "
            f"{metrics.test_loss:.4f}{held_out}{' (best)' if is_best else ''}; "
            f"{metrics.samples_per_second:,.0f} samples/s"
        )


def _tensorboard(out: Path, run: Run) -> Any:
    try:
        # TensorBoard is an extra of its own, and slow to import
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CompilerError("--tensorboard needs tensorboard", "pip install 'netspec[tensorboard]'") from None
    return SummaryWriter(str(out / "tensorboard"), purge_step=run.state.epoch + 1)


def _write_tensorboard(writer: Any, metrics: Metrics) -> None:
    epoch = metrics.epoch + 1
    for name in ("loss", "accuracy"):
        parts = {"training": getattr(metrics, f"train_{name}"), "held_out": getattr(metrics, f"test_{name}")}
        for part, value in parts.items():
            if value is not None:
                writer.add_scalar(f"{name}/{part}", value, epoch)
    writer.add_scalar("learning_rate", metrics.lr, epoch)
    writer.add_scalar("samples_per_second", metrics.samples_per_second, epoch)
    writer.flush()
