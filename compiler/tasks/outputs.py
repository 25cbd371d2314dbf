"""Tasks whose first output is held against a tensor of targets; further outputs are weighed by `auxiliary`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from compiler import class_loss
from compiler.batches import Batch
from compiler.tasks.base import Outcome, Task
from netspec.choices import L1, Choice, CrossEntropy, MeanSquaredError
from netspec.network import Network


def make_loss(choice: Choice) -> nn.Module:
    """The loss as a module."""
    if isinstance(choice, CrossEntropy):
        return class_loss.CrossEntropy(choice.label_smoothing, choice.ignore)
    if isinstance(choice, MeanSquaredError):
        return nn.MSELoss()
    assert isinstance(choice, L1)
    return nn.L1Loss()


class OutputTask(Task):
    """A task that compares outputs with targets of one form.

    Attributes:
        compare: the loss of one output.
        weights: what the loss of each output after the first counts.
    """

    def __init__(self, network: Network, labels: tuple[str, ...]) -> None:
        super().__init__(network, labels)
        recipe = network.sections["train"]
        self.compare = make_loss(recipe.loss)
        self.weights = tuple(recipe.numbers.auxiliary[name] for name in [*network.outputs][1:])

    @abstractmethod
    def followed(self, judged: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What is followed while training, besides the loss: scalars of a batch's first output."""

    def step(self, module: nn.Module, batch: Batch) -> Outcome:
        assert isinstance(batch.targets, Tensor)
        given = module(*batch.inputs)
        judged, *others = given if isinstance(given, tuple) else (given,)
        loss = self.compare(judged, batch.targets)
        for weight, other in zip(self.weights, others, strict=True):
            loss = loss + weight * self.compare(other, batch.targets)
        return Outcome(loss, self.followed(judged.detach(), batch.targets))

    def answers(self, module: nn.Module, batches: Iterable[Batch]) -> Iterable[tuple[Batch, Tensor, Tensor, float]]:
        """Each batch with its targets, the first output in float32, and that output's loss, summed over the samples."""
        for batch in batches:
            assert isinstance(batch.targets, Tensor)
            given = module(*batch.inputs)
            judged = (given[0] if isinstance(given, tuple) else given).float()
            yield batch, batch.targets, judged, float(self.compare(judged, batch.targets)) * len(batch)
