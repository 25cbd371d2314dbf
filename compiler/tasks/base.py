"""A task: how far a batch's answers are from the truth, and what is measured on samples that were held out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from PIL import Image
from torch import Tensor, nn

from compiler.batches import Batch
from compiler.metrics import known
from netspec.network import Network

SHOWN = 8  # how many held-out samples the pictures of a run show


class Outcome(NamedTuple):
    """What a step gives.

    Attributes:
        loss: the scalar that is minimised.
        values: what else is followed, scalars by name: the parts of the loss, accuracies; means over the batch.
    """

    loss: Tensor
    values: dict[str, Tensor]


class Table(NamedTuple):
    """Results for people: the first column is text, the others are numbers."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> list[str]:
        """As lines of Markdown."""
        rule = f"|---|{'--:|' * (len(self.headings) - 1)}"
        return [f"| {' | '.join(self.headings)} |", rule, *(f"| {' | '.join(row)} |" for row in self.rows)]


class Evaluation(ABC):
    """What was found on the held-out samples.

    Attributes:
        values: numbers by name, of which the task's score is one. `loss` is a mean over samples.
    """

    values: dict[str, float]

    def table(self) -> Table | None:
        """What was measured of each class; None where there are no such."""
        return None

    def facts(self) -> dict[str, Any]:
        """What was measured, for scripts: JSON without NaN."""
        return {name: known(value) for name, value in self.values.items()}

    def report(self, folder: Path) -> list[str]:
        """Lines of Markdown for the run's report, whose pictures are written into its folder.

        Raises:
            CompilerError: a picture can't be written.
        """
        table = self.table()
        return table.markdown() if table else []

    def picture(self) -> Image.Image | None:
        """A few held-out samples with what the network makes of them beside the truth; None where there are no such."""
        return None


def percent(value: float, digits: int = 1) -> str:
    """A fraction for people."""
    return "–" if math.isnan(value) else f"{value:.{digits}%}"


class Task(ABC):
    """One thing that networks are trained to do; a subclass serves a family of losses.

    Attributes:
        score: the name of the value that tells the best epoch: the larger the better, save for `loss`.
        titles: values as people write them, where that is not their name. Those that are named here are fractions.
        evaluation_batch: the least number of samples that are evaluated together.
    """

    score: ClassVar[str]
    titles: ClassVar[dict[str, str]] = {}
    evaluation_batch: ClassVar[int] = 1

    def __init__(self, network: Network, labels: tuple[str, ...]) -> None:
        self.network, self.labels = network, labels

    @abstractmethod
    def step(self, module: nn.Module, batch: Batch) -> Outcome:
        """The loss of a batch; `module` is in training mode, and gradients flow."""

    @abstractmethod
    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> Evaluation:
        """What the network finds in held-out samples; `module` is in evaluation mode, and no gradient flows."""

    def shown(self, values: Mapping[str, float], between: str = ", ") -> str:
        """Values for people: fractions in percent, the parts of the loss in brackets behind it."""
        losses = {name: f"{name} {value:.4f}" for name, value in values.items() if name not in self.titles}
        whole = losses.pop("loss", None)
        parts = [f"{whole} ({', '.join(losses.values())})" if losses else whole] if whole else [*losses.values()]
        parts += [f"{title} {percent(values[name], 2)}" for name, title in self.titles.items() if name in values]
        return between.join(parts)
