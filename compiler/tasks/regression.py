"""Values of any shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from compiler.batches import Batch
from compiler.tasks.base import Evaluation
from compiler.tasks.outputs import OutputTask


@dataclass(slots=True)
class Compared(Evaluation):
    """How far the answers are from the held-out values."""

    values: dict[str, float]


class Regression(OutputTask):
    """An output against values of its shape; judged by the loss."""

    score = "loss"
    evaluation_batch = 256

    def followed(self, judged: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {}

    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> Compared:
        loss, count = 0.0, 0
        for batch, _, _, of_batch in self.answers(module, batches):
            loss += of_batch
            count += len(batch)
        return Compared({"loss": loss / count})
