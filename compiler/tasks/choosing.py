"""Which task a spec trains."""

from __future__ import annotations

from compiler.tasks.base import Task
from compiler.tasks.classification import Classification
from compiler.tasks.regression import Regression
from netspec.choices import CrossEntropy
from netspec.network import Network


def task_of(network: Network, labels: tuple[str, ...]) -> Task:
    """The task that a network's loss belongs to.

    Args:
        labels: the names of the classes that the data has.
    """
    loss = network.sections["train"].loss
    if isinstance(loss, CrossEntropy):
        return Classification(network, labels)
    return Regression(network, labels)
