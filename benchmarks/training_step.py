"""A training step of the compiled digits' ResNet against the same network written by hand in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.handwritten import DigitsResNet
from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish
from compiler.module import build
from netspec import load

BATCH = 64
ROUNDS = 300


def step_of(module: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> Callable[[], object]:
    optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_function(module(x), targets).backward()
        optimizer.step()

    return step


def measure() -> Result:
    compiled, by_hand = build(load("resnet")).train(), DigitsResNet().train()
    by_hand.load_state_dict(compiled.state_dict())
    x, targets = torch.randn(BATCH, 1, 8, 8), torch.randint(0, 10, (BATCH,))
    torch.testing.assert_close(compiled(x), by_hand(x))
    steps = {"compiled": step_of(compiled, x, targets), "by hand": step_of(by_hand, x, targets)}
    times = alternate(steps, ROUNDS, warm_up=20)
    return Result(
        "training_step",
        f"a training step of the compiled ResNet over the same by hand, batch {BATCH}, CPU",
        paired_ratio(times, "compiled", "by hand"),
        1.03,
        True,
        medians(times),
        {"rounds": ROUNDS, "torch_threads": torch.get_num_threads()},
    )


if __name__ == "__main__":
    publish(measure)
