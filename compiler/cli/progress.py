"""What is shown while a run goes on: a progress bar where there is a terminal, and a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from compiler.training import Run

REFRESH_SECONDS = 0.1
MAX_NAMED = 20  # samples that are left out, at a time


class Display:
    """A progress bar with what is followed and samples a second; below it, or without a terminal, a line an epoch."""

    def __init__(self, console: Console, run: Run) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.shown = 0.0  # when the numbers were last brought up to date
        total = run.recipe.numbers.epochs * run.steps_per_epoch
        self.task = self.progress.add_task("epoch 1", total=total, numbers="")

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def step(self, run: Run) -> None:
        """Brings the bar up to date, at most a few times a second."""
        if time.monotonic() - self.shown < REFRESH_SECONDS or not run.state.samples:
            return
        self.shown = time.monotonic()
        speed = self.progress.tasks[0].speed
        samples = f" · {speed * run.recipe.numbers.batch_size:,.0f} samples/s" if speed else ""
        self.progress.update(
            self.task,
            completed=run.state.epoch * run.steps_per_epoch + run.state.step,
            description=f"epoch {run.state.epoch + 1}/{run.recipe.numbers.epochs}",
            numbers=run.task.shown(run.state.means(), " · ") + samples,
        )

    def epoch(self, run: Run, is_best: bool) -> None:
        """A line on the epoch that has just ended."""
        metrics = run.state.history[-1]
        held_out = f"; held out: {run.task.shown(metrics.test)}{' (best)' if is_best else ''}" if metrics.test else ""
        self.console.print(
            f"epoch {metrics.epoch + 1:>3}: {run.task.shown(metrics.train)}{held_out}; "
            f"{_speed(metrics.samples_per_second)} samples/s"
        )

    def watch(self, batches: Sequence[Tensor]) -> Iterable[Tensor]:
        """The batches of an evaluation, with a bar of their own."""
        task = self.progress.add_task("held out", total=len(batches), numbers="")
        try:
            for batch in batches:
                yield batch
                self.progress.advance(task)
            self.progress.update(self.task, numbers="measuring")  # what is left is to put the results together
        finally:
            self.progress.remove_task(task)


class LeftOut:
    """Samples that could not be used, each named once."""

    def __init__(self, console: Console, skipped: Mapping[str, str]) -> None:
        self.console, self.skipped = console, skipped
        self.told = 0

    def tell(self) -> None:
        """Names those that have come up since it was last asked, and counts them all."""
        new = [*self.skipped.values()][self.told :]
        self.told += len(new)
        for message in new[:MAX_NAMED]:
            self.console.print(f"left out: {message}", markup=False)
        if new:
            more = f", {len(new) - MAX_NAMED:,} more now" if len(new) > MAX_NAMED else ""
            self.console.print(f"samples left out: {self.told:,}{more}")


def _speed(samples: float) -> str:
    return f"{samples:,.0f}" if samples >= 10 else f"{samples:.1f}"
