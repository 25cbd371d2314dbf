"""Classes of samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from compiler.batches import Batch
from compiler.pictures import confusion_matrix, draw_confusion
from compiler.tasks.base import Evaluation
from compiler.tasks.outputs import OutputTask

MAX_MISTAKES = 12


@dataclass(slots=True)
class Classified(Evaluation):
    """The class that each held-out sample was taken for.

    Attributes:
        predicted, truth: class numbers.
    """

    values: dict[str, float]
    predicted: Tensor
    truth: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]

    def report(self, folder: Path) -> list[str]:
        """The confusion matrix, and which samples were taken for another class."""
        matrix = confusion_matrix(self.predicted, self.truth, len(self.labels))
        draw_confusion(matrix, self.labels, folder / "confusion.png")
        lines = ["![confusion matrix of the last weights](confusion.png)", ""]
        wrong = torch.nonzero(self.predicted != self.truth).flatten().tolist()
        if wrong:
            lines.append(f"{len(wrong)} of {len(self.names):,} held-out samples are taken for another class:")
            lines.append("")
        lines += [
            f"- {self.names[i]}: {self.labels[int(self.truth[i])]}, taken for {self.labels[int(self.predicted[i])]}"
            for i in wrong[:MAX_MISTAKES]
        ]
        if len(wrong) > MAX_MISTAKES:
            lines.append(f"- … and {len(wrong) - MAX_MISTAKES} more")
        return lines


class Classification(OutputTask):
    """Logits N × classes against class numbers; judged by the accuracy."""

    score = "accuracy"
    titles: ClassVar[dict[str, str]] = {"accuracy": "accuracy"}
    evaluation_batch = 256

    def followed(self, judged: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"accuracy": (judged.argmax(1) == targets).double().mean()}

    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> Classified:
        loss = 0.0
        names: list[str] = []
        predicted, truth = [], []
        for batch, targets, judged, of_batch in self.answers(module, batches):
            loss += of_batch
            names += batch.names
            predicted.append(judged.argmax(1).cpu())
            truth.append(targets.cpu())
        found, right = torch.cat(predicted), torch.cat(truth)
        values = {"loss": loss / len(names), "accuracy": float((found == right).double().mean())}
        return Classified(values, found, right, tuple(names), self.labels)
