"""`netspec train`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import click
import torch
from rich.console import Console
from torch import Tensor

from compiler.cli.common import choose_device, spec_folder, told
from compiler.cli.progress import Display, LeftOut
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.metrics import Metrics
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
    save_picture,
    start_run,
)
from compiler.training import Hooks, Run, train
from compiler.weights import fitting_weights
from netspec.cli.common import load_or_exit, set_option
from netspec.cli.interrupts import INTERRUPTED
from netspec.data_choices import OnError
from netspec.diagnostics import nearest
from netspec.network import Network


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
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    help="What to do with images that can't be used; the same as --set train.data.on_error=….",
)
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
    on_error: OnError | None,
    tensorboard: bool,
) -> None:
    """Train SPEC on the data that its `train` section names.

    Ctrl-C saves and stops; --resume goes on from there, and also after a crash.
    """
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run, --overwrite replaces it: give one of the two")
    if epochs is not None:
        settings = (*settings, f"train.epochs={epochs}")
    if on_error is not None:
        settings = (*settings, f"train.data.on_error={on_error}")
    network = load_or_exit(spec, settings, to_train=True)
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
    run = Run(network, module, data, chosen, amp)
    resumed = resume and restore(out, run)
    if not resumed:
        clear_run(out)
        start_run(out, network, settings, data.labels)
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    left_out = LeftOut(console, data.skipped)
    left_out.tell()
    _announce(console, network, run, out, resumed)
    writer = _tensorboard(out, run) if tensorboard else None
    with _interruptible() as interrupted, Display(console, run) as display:
        hooks = _Hooks(out, display, left_out, interrupted, writer)
        finished = train(run, hooks)
        if finished:
            write_report(out, run, hooks)
    if writer:
        writer.close()
    if not finished:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        again = shlex.join(["netspec", *words, "--resume"])
        console.print(f"interrupted; saved in {out}. Go on with: {again}")
        sys.exit(INTERRUPTED)
    score = run.task.score
    held_out = run.task.shown({score: run.state.history[-1].test[score]})
    console.print(f"held-out {held_out} (last epoch); report: {out / 'report.md'}")


class _Hooks(Hooks):
    """Saves what a run leaves, shows how it goes, and asks whether it is to stop."""

    def __init__(
        self, out: Path, display: Display, left_out: LeftOut, interrupted: Callable[[], bool], writer: Any
    ) -> None:
        self.out, self.display, self.left_out = out, display, left_out
        self.interrupted, self.writer = interrupted, writer

    def after_step(self, run: Run) -> None:
        self.display.step(run)

    def after_epoch(self, run: Run, is_best: bool) -> None:
        save_epoch(self.out, run, is_best)
        save_picture(self.out, run)
        self.display.epoch(run, is_best)
        self.left_out.tell()
        if self.writer:
            _write_tensorboard(self.writer, run.state.history[-1])

    def save(self, run: Run) -> None:
        save_checkpoint(self.out, run)

    def stop(self) -> bool:
        return self.interrupted()

    def watch(self, batches: Sequence[Tensor]) -> Iterable[Tensor]:
        return self.display.watch(batches)


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
    where = (
        f"from epoch {run.state.epoch + 1}, step {run.state.step + 1}"
        if resumed
        else f"for {epochs} epoch{'s' if epochs > 1 else ''}"
    )
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


def _tensorboard(out: Path, run: Run) -> Any:
    try:
        # TensorBoard is an extra of its own, and slow to import
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CompilerError("--tensorboard needs tensorboard", "pip install 'netspec[tensorboard]'") from None
    return SummaryWriter(str(out / "tensorboard"), purge_step=run.state.epoch + 1)


def _write_tensorboard(writer: Any, metrics: Metrics) -> None:
    epoch = metrics.epoch + 1
    for part, values in (("training", metrics.train), ("held_out", metrics.test)):
        for name, value in values.items():
            writer.add_scalar(f"{name}/{part}", value, epoch)
    writer.add_scalar("learning_rate", metrics.lr, epoch)
    writer.add_scalar("samples_per_second", metrics.samples_per_second, epoch)
    writer.flush()
