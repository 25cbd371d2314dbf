"""A training step of ResNet-50 and DenseNet-121, compiled, against the same in plain PyTorch: time and peak memory.

On one thread: with several, a process that takes a core for a moment makes all of them wait.
"""

from __future__ import annotations

import statistics

import torch
from torch import nn

from benchmarks.measuring import Result, alternate, in_child, medians, paired_ratio, peak_memory, publish, worst
from benchmarks.plain import plain_class
from benchmarks.training_step import step_of
from compiler.module import build
from netspec import load

NAMES = ("resnet50", "densenet121")
SIDES = ("compiled", "plain")
BATCH = 8
SIZE = 64
ROUNDS = 30
CHILDREN = 3
STEPS = 3


def data(channels: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(BATCH, channels, size, size), torch.randint(0, 10, (BATCH,))


def time_ratio(name: str) -> tuple[float, dict[str, float]]:
    torch.set_num_threads(1)
    network = load(name)
    compiled, plain = build(network).train(), plain_class(network)().train()
    plain.load_state_dict(compiled.state_dict())
    x, targets = data(3, SIZE)
    torch.testing.assert_close(compiled(x), plain(x))
    steps = {"compiled": step_of(compiled, x, targets), "plain": step_of(plain, x, targets)}
    times = alternate(steps, ROUNDS, warm_up=2)
    return paired_ratio(times, "compiled", "plain"), medians(times)


def peak_of_training(name: str, side: str) -> int:
    """Bytes that some training steps take beyond what the process held before the module was made."""
    torch.set_num_threads(1)
    network = load(name)
    plain = plain_class(network)
    step_of(build(load("resnet")).train(), *data(1, 8))()  # both sides import, and set up, what training needs
    before = peak_memory()
    module: nn.Module = build(network) if side == "compiled" else plain()
    step = step_of(module.train(), *data(3, SIZE))
    for _ in range(STEPS):
        step()
    return peak_memory() - before


def memory_ratio(name: str) -> tuple[float, dict[str, int]]:
    peaks: dict[str, list[int]] = {side: [] for side in SIDES}
    for _ in range(CHILDREN):
        for side in SIDES:
            peaks[side].append(in_child(peak_of_training, name, side))
    middle = {side: statistics.median(found) for side, found in peaks.items()}
    return middle["compiled"] / middle["plain"], {side: round(found / 2**20) for side, found in middle.items()}


def measure() -> list[Result]:
    slower, larger, times, peaks = {}, {}, {}, {}
    for name in NAMES:
        larger[name], peaks[name] = memory_ratio(name)
        slower[name], found = time_ratio(name)
        times |= {f"{name}, {side}": value for side, value in found.items()}
    set_up = f"batch {BATCH}, {SIZE} × {SIZE}, CPU"
    step = f"a training step of the compiled module over plain PyTorch's, {set_up}"
    peak = f"peak memory of {STEPS} training steps of the compiled module over plain PyTorch's, {set_up}"
    return [
        worst("training_step_zoo", step, slower, 1.03, True, times, {"rounds": ROUNDS, "torch_threads": 1}),
        worst("training_memory_zoo", peak, larger, 1.02, True, {}, {"processes": CHILDREN, "peaks_mib": peaks}),
    ]


if __name__ == "__main__":
    publish(measure)
