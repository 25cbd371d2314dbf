"""What is known of a run after each epoch: named numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Metrics:
    """What is known after an epoch. Losses are means over samples, accuracies and the like fractions.

    Attributes:
        train: what was followed while training: the loss, its parts, accuracies.
        test: what was measured on the held-out samples; empty after an epoch that was not evaluated.
    """

    epoch: int
    train: dict[str, float]
    test: dict[str, float]
    lr: float
    seconds: float
    samples_per_second: float

    def line(self) -> dict[str, Any]:
        """As a flat object for JSON: `train_loss`, `test_loss` and so on; None for what is no number."""
        return {
            "epoch": self.epoch,
            **{f"train_{name}": known(value) for name, value in self.train.items()},
            **{f"test_{name}": known(value) for name, value in self.test.items()},
            "lr": self.lr,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }


def known(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value
