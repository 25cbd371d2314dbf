"""Training steps of a compiled detector and of the same net and losses by hand, in turns.

On one thread: with several, a process that takes a core for a moment makes all of them wait.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measuring import Result, alternate, medians, paired_ratio

Side = tuple[nn.Module, Callable[[], Tensor]]  # a module, and its loss for a batch


def compare(name: str, what: str, compiled: Side, by_hand: Side, rounds: int, weight_decay: float = 0.0) -> Result:
    """The time of the compiled net's step over that of the other."""
    steps = {"compiled": _step_of(*compiled, weight_decay), "by hand": _step_of(*by_hand, weight_decay)}
    times = alternate(steps, rounds, warm_up=1)
    ratio = paired_ratio(times, "compiled", "by hand")
    return Result(name, what, ratio, 1.05, True, medians(times), {"rounds": rounds, "torch_threads": 1})


def _step_of(module: nn.Module, loss: Callable[[], Tensor], weight_decay: float) -> Callable[[], object]:
    optimizer = torch.optim.SGD(module.parameters(), 1e-4, momentum=0.9, weight_decay=weight_decay)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step
