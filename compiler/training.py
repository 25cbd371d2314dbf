"""The training loop: a small function to be read, not a framework.

What is learnt is the task's (`compiler.tasks`): its loss, and what it measures on the held-out samples. Everything
that a step depends on follows from the spec, the seed and the step's number, or is in the checkpoint; so a run that was
killed at any moment and resumed ends, on a CPU, with the same weights to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compiler.batches import Batch, Data, Split
from compiler.errors import CompilerError
from compiler.metrics import Metrics
from compiler.tasks.base import Evaluation, Task
from compiler.tasks.choosing import task_of
from netspec.choices import Adam, AdamW, Choice, Constant, Cosine, Sgd, Step
from netspec.network import Network
from netspec.recipe import Train

Amp = Literal["bf16", "fp16"]
CHECKPOINT_SECONDS = 30.0  # at most this much work is lost to a crash within an epoch


@dataclass(slots=True)
class State:
    """Where a run stands; all of it goes into the checkpoint.

    Attributes:
        epoch, step: the next step to take, both from 0.
        samples: trained on in the epoch so far.
        sums: what is followed, over these samples.
        best_score, best_epoch: the best score so far, and the epoch it was reached in.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_score: float = -math.inf
    best_epoch: int = -1
    history: list[Metrics] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """What is followed, as means over the epoch's samples so far."""
        return {name: total / self.samples for name, total in self.sums.items()}


@dataclass(slots=True)
class Run:
    """A run in progress: what a step changes, and what it needs.

    Attributes:
        evaluation: what was found on the held-out samples, after the last epoch that was evaluated.
    """

    network: Network
    module: nn.Module
    data: Data
    device: torch.device
    amp: Amp | None = None
    state: State = field(default_factory=State)
    evaluation: Evaluation | None = None
    recipe: Train = field(init=False)
    task: Task = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.recipe = self.network.sections["train"]
        self.module.to(self.device)
        self.task = task_of(self.network, self.data.labels)
        self.optimizer = make_optimizer(self.recipe.optimizer, self.module)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")

    @property
    def steps_per_epoch(self) -> int:
        return len(batches_of(torch.arange(len(self.data.train)), self.recipe.numbers.batch_size))


class Hooks:
    """What is called while a run goes on; these do nothing."""

    def after_step(self, run: Run) -> None:
        """After every step."""

    def after_epoch(self, run: Run, is_best: bool) -> None:
        """After every epoch, with whether it is the best so far."""

    def save(self, run: Run) -> None:
        """When a checkpoint is due."""

    def stop(self) -> bool:
        """Asked after every step, and between the batches of an evaluation; true ends the run where it stands."""
        return False

    def watch(self, batches: Sequence[Tensor]) -> Iterable[Tensor]:
        """The batches of an evaluation, shown as they pass."""
        return batches


class Stopped(Exception):
    """The run was asked to end while the held-out samples were evaluated."""


def train(run: Run, hooks: Hooks) -> bool:
    """Trains from where the run stands to the last epoch; false where `stop` ended it before.

    Raises:
        CompilerError: the loss is no longer a finite number, or a sample can't be read.
    """
    state = run.state
    while state.epoch < run.recipe.numbers.epochs:
        begun = last_saved = time.monotonic()
        samples_before = state.samples
        run.module.train()
        for batch in _batches(run, state.epoch, state.step):
            if len(batch):
                _take_step(run, batch)
            state.step += 1
            hooks.after_step(run)
            if hooks.stop():
                hooks.save(run)
                return False
            if time.monotonic() - last_saved > CHECKPOINT_SECONDS and state.step < run.steps_per_epoch:
                hooks.save(run)
                last_saved = time.monotonic()
        seconds = time.monotonic() - begun
        speed = (state.samples - samples_before) / seconds if seconds > 0 else 0.0
        try:
            is_best = _finish_epoch(run, hooks, seconds, speed)
        except Stopped:
            hooks.save(run)
            return False
        hooks.after_epoch(run, is_best)
        hooks.save(run)
    return True


def _take_step(run: Run, batch: Batch) -> None:
    state = run.state
    rate = learning_rate(run.recipe, state.epoch + state.step / run.steps_per_epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with autocast(run):
        loss, followed = run.task.step(run.module, batch.to(run.device))
    # All in one transfer from the device.
    values = torch.stack([value.detach().double() for value in (loss, *followed.values())]).tolist()
    if not math.isfinite(values[0]):
        raise CompilerError(
            f"the loss is {values[0]} in epoch {state.epoch + 1}, step {state.step + 1}{_parts(followed, values[1:])}",
            "lower the learning rate (`--set train.optimizer.lr=…`), or add a warm-up",
        )
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(run.scaler.scale(loss))
    run.scaler.step(run.optimizer)
    run.scaler.update()
    for name, value in zip(("loss", *followed), values, strict=True):
        state.sums[name] = state.sums.get(name, 0.0) + value * len(batch)
    state.samples += len(batch)


def _parts(names: Iterable[str], values: Sequence[float]) -> str:
    """The parts of a loss that are to blame."""
    wrong = [f"{name} is {value}" for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
    return f" ({', '.join(wrong)})" if wrong else ""


def _batches(run: Run, epoch: int, skip: int) -> Iterator[Batch]:
    """An epoch's batches, shuffled by the seed and the epoch alone, without the first `skip`."""
    numbers = run.recipe.numbers
    generator = torch.Generator().manual_seed((numbers.seed + 1) * 1_000_003 + epoch)
    order = torch.randperm(len(run.data.train), generator=generator)
    for indices in batches_of(order, numbers.batch_size)[skip:]:
        yield run.data.train.batch(indices, epoch)


def batches_of(order: Tensor, size: int) -> list[Tensor]:
    """The samples in batches; a last one of a single sample, which has no variance, joins the batch before it."""
    batches = list(torch.split(order, size))
    if size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _finish_epoch(run: Run, hooks: Hooks, seconds: float, speed: float) -> bool:
    state, numbers = run.state, run.recipe.numbers
    if not state.samples:
        raise CompilerError("none of the training samples can be read")
    test, is_best = {}, False
    if (state.epoch + 1) % numbers.evaluate == 0 or state.epoch + 1 == numbers.epochs:
        run.evaluation = evaluate(run, run.data.test, hooks)
        test = run.evaluation.values
        score = -test["loss"] if run.task.score == "loss" else test[run.task.score]
        is_best = score > state.best_score or state.best_epoch < 0  # a score may be no number
        if is_best:
            state.best_score, state.best_epoch = score, state.epoch
    rate = run.optimizer.param_groups[0]["lr"]
    state.history.append(Metrics(state.epoch, state.means(), test, rate, seconds, speed))
    state.epoch, state.step, state.samples, state.sums = state.epoch + 1, 0, 0, {}
    return is_best


def autocast(run: Run) -> AbstractContextManager[Any]:
    """Mixed precision where it was asked for."""
    if run.amp is None:
        return nullcontext()
    return torch.autocast(run.device.type, torch.bfloat16 if run.amp == "bf16" else torch.float16)


def evaluate(run: Run, split: Split, hooks: Hooks) -> Evaluation:
    """What the task measures on a split, in evaluation mode; the random state is left as it was.

    Raises:
        CompilerError: none of the samples can be read.
        Stopped: the run was asked to end.
    """
    size = max(run.recipe.numbers.batch_size, run.task.evaluation_batch)
    run.module.eval()

    def batches() -> Iterator[Batch]:
        seen = 0
        for indices in hooks.watch(torch.split(torch.arange(len(split)), size)):
            if hooks.stop():
                raise Stopped
            batch = split.batch(indices)
            seen += len(batch)
            if len(batch):
                yield batch.to(run.device)
        if not seen:
            raise CompilerError("none of the held-out samples can be read")

    with torch.inference_mode(), autocast(run), torch.random.fork_rng():
        torch.manual_seed(run.recipe.numbers.seed)
        return run.task.evaluate(run.module, batches())


def learning_rate(recipe: Train, epoch: float) -> float:
    """The learning rate at a moment, in epochs with fractions: a pure function, so nothing is to be restored."""
    assert isinstance(recipe.optimizer, Sgd | Adam | AdamW)
    base, schedule = recipe.optimizer.lr, recipe.schedule
    assert isinstance(schedule, Constant | Cosine | Step)
    if epoch < schedule.warmup:
        return base * (epoch + 1e-2) / (schedule.warmup + 1e-2)
    if isinstance(schedule, Cosine):
        span = max(recipe.numbers.epochs - schedule.warmup, 1e-9)
        progress = min((epoch - schedule.warmup) / span, 1.0)
        return base * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
    if isinstance(schedule, Step):
        return float(base * schedule.factor ** (int(epoch) // schedule.every))
    return base


def make_optimizer(choice: Choice, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over a module's parameters."""
    parameters = list(module.parameters())
    if not parameters:
        raise CompilerError("the network has no parameters to train")
    if isinstance(choice, Sgd):
        return torch.optim.SGD(
            parameters, choice.lr, choice.momentum, weight_decay=choice.weight_decay, nesterov=choice.nesterov
        )
    if isinstance(choice, Adam):
        return torch.optim.Adam(parameters, choice.lr, weight_decay=choice.weight_decay)
    assert isinstance(choice, AdamW)
    return torch.optim.AdamW(parameters, choice.lr, weight_decay=choice.weight_decay)
