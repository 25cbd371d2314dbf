"""The training loop: a small function to be read, not a framework.

Everything that a step depends on follows from the spec, the seed and the step's number, or is in the checkpoint; so a
run that was killed at any moment and resumed ends, on a CPU, with the same weights to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compiler import class_loss
from compiler.data import Data, Split
from compiler.errors import CompilerError
from netspec.choices import (
    L1,
    Adam,
    AdamW,
    Choice,
    Constant,
    Cosine,
    CrossEntropy,
    MeanSquaredError,
    Sgd,
    Step,
)
from netspec.recipe import Train

Amp = Literal["bf16", "fp16"]
CHECKPOINT_SECONDS = 30.0  # at most this much work is lost to a crash within an epoch


@dataclass(slots=True)
class Metrics:
    """What is known after an epoch. Losses are means over samples, accuracies fractions, None for regression."""

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    lr: float
    seconds: float
    samples_per_second: float


@dataclass(slots=True)
class State:
    """Where a run stands; all of it goes into the checkpoint.

    Attributes:
        epoch, step: the next step to take, both from 0.
        sums: loss, right answers and samples of the epoch so far.
        best: the best score so far, and the epoch it was reached in.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_score: float = -math.inf
    best_epoch: int = -1
    history: list[Metrics] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """A run in progress: what a step changes, and what it needs.

    Attributes:
        auxiliary: what the loss of each output after the first counts; the first is the one that is judged.
    """

    module: nn.Module
    data: Data
    recipe: Train
    device: torch.device
    amp: Amp | None = None
    auxiliary: tuple[float, ...] = ()
    state: State = field(default_factory=State)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.module.to(self.device)
        self.optimizer = make_optimizer(self.recipe.optimizer, self.module)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")

    @property
    def classifies(self) -> bool:
        return isinstance(self.recipe.loss, CrossEntropy)

    @property
    def steps_per_epoch(self) -> int:
        return len(batches_of(torch.arange(len(self.data.train)), self.recipe.numbers.batch_size))


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is called while a run goes on.

    Attributes:
        after_step: with the run, after every step.
        after_epoch: with the run and whether this epoch is the best so far.
        save: when a checkpoint is due.
        stop: asked after every step; true ends the run where it stands.
    """

    after_step: Callable[[Run], None]
    after_epoch: Callable[[Run, bool], None]
    save: Callable[[Run], None]
    stop: Callable[[], bool]


def train(run: Run, hooks: Hooks) -> bool:
    """Trains from where the run stands to the last epoch; false where `stop` ended it before.

    Raises:
        CompilerError: the loss is no longer a finite number.
    """
    loss_function = make_loss(run.recipe.loss)
    numbers, state = run.recipe.numbers, run.state
    while state.epoch < numbers.epochs:
        begun = last_saved = time.monotonic()
        first_step = state.step
        run.module.train()
        for indices in _batches(run, state.epoch, state.step):
            _take_step(run, loss_function, indices)
            state.step += 1
            hooks.after_step(run)
            if hooks.stop():
                hooks.save(run)
                return False
            if time.monotonic() - last_saved > CHECKPOINT_SECONDS and state.step < run.steps_per_epoch:
                hooks.save(run)
                last_saved = time.monotonic()
        seconds = time.monotonic() - begun
        samples = min(len(run.data.train), run.steps_per_epoch * numbers.batch_size) - first_step * numbers.batch_size
        is_best = _finish_epoch(run, loss_function, seconds, samples / seconds if seconds > 0 else 0.0)
        hooks.after_epoch(run, is_best)
        hooks.save(run)
    return True


def _take_step(run: Run, loss_function: nn.Module, indices: Tensor) -> None:
    state = run.state
    rate = learning_rate(run.recipe, state.epoch + state.step / run.steps_per_epoch)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    inputs = run.data.train.read(indices).to(run.device)
    targets = run.data.train.targets[indices].to(run.device)
    with autocast(run):
        given = run.module(inputs)
        outputs, *others = given if isinstance(given, tuple) else (given,)
        loss = loss_function(outputs, targets)
        for weight, other in zip(run.auxiliary, others, strict=True):
            loss = loss + weight * loss_function(other, targets)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise CompilerError(
            f"the loss is {value} in epoch {state.epoch + 1}, step {state.step + 1}",
            "lower the learning rate (`--set train.optimizer.lr=…`), or add a warm-up",
        )
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    right = int((outputs.detach().argmax(1) == targets).sum()) if run.classifies else 0
    for index, amount in enumerate((value * len(indices), right, len(indices))):
        state.sums[index] += amount


def _batches(run: Run, epoch: int, skip: int) -> Iterator[Tensor]:
    """Indices of an epoch's batches, shuffled by the seed and the epoch alone, without the first `skip`."""
    numbers = run.recipe.numbers
    generator = torch.Generator().manual_seed((numbers.seed + 1) * 1_000_003 + epoch)
    order = torch.randperm(len(run.data.train), generator=generator)
    yield from batches_of(order, numbers.batch_size)[skip:]


def batches_of(order: Tensor, size: int) -> list[Tensor]:
    """The samples in batches; a last one of a single sample, which has no variance, joins the batch before it."""
    batches = list(torch.split(order, size))
    if size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _finish_epoch(run: Run, loss_function: nn.Module, seconds: float, speed: float) -> bool:
    state = run.state
    loss, right, count = state.sums
    test_loss, test_accuracy = evaluate(run, run.data.test, loss_function)
    score = -test_loss if test_accuracy is None else test_accuracy
    is_best = score > state.best_score
    if is_best:
        state.best_score, state.best_epoch = score, state.epoch
    rate = run.optimizer.param_groups[0]["lr"]
    accuracy = right / count if run.classifies else None
    state.history.append(Metrics(state.epoch, loss / count, accuracy, test_loss, test_accuracy, rate, seconds, speed))
    state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0, 0.0, 0.0]
    return is_best


def autocast(run: Run) -> AbstractContextManager[Any]:
    """Mixed precision where it was asked for."""
    if run.amp is None:
        return nullcontext()
    return torch.autocast(run.device.type, torch.bfloat16 if run.amp == "bf16" else torch.float16)


def predictions(run: Run, split: Split) -> Tensor:
    """The network's first output for a split, on the CPU, in evaluation mode."""
    run.module.eval()
    outputs = []
    with torch.inference_mode(), autocast(run):
        for indices in torch.split(torch.arange(len(split)), max(run.recipe.numbers.batch_size, 256)):
            given = run.module(split.read(indices).to(run.device))
            judged = given[0] if isinstance(given, tuple) else given
            outputs.append(judged.float().cpu())
    return torch.cat(outputs)


def evaluate(run: Run, split: Split, loss_function: nn.Module) -> tuple[float, float | None]:
    """Mean loss, and accuracy for classifiers, on a split."""
    outputs = predictions(run, split)
    loss = float(loss_function(outputs, split.targets))
    accuracy = float((outputs.argmax(1) == split.targets).double().mean()) if run.classifies else None
    return loss, accuracy


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


def make_loss(choice: Choice) -> nn.Module:
    """The loss as a module."""
    if isinstance(choice, CrossEntropy):
        return class_loss.CrossEntropy(choice.label_smoothing, choice.ignore)
    if isinstance(choice, MeanSquaredError):
        return nn.MSELoss()
    assert isinstance(choice, L1)
    return nn.L1Loss()


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
