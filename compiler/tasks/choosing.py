"""Which task a spec trains."""

from __future__ import annotations

from compiler.tasks.base import Task
from compiler.tasks.classification import Classification
from compiler.tasks.detection import Detection
from compiler.tasks.regression import Regression
from compiler.tasks.segmentation import Segmentation
from netspec.choices import CrossEntropy
from netspec.detection_choices import DetectionLoss
from netspec.network import Network
from netspec.recipe_checks import is_score_map


def task_of(network: Network, labels: tuple[str, ...]) -> Task:
    """The task that a network's loss belongs to.

    Args:
        labels: the names of the classes that the data has.
    """
    loss = network.sections["train"].loss
    if isinstance(loss, DetectionLoss):
        return Detection(network, labels)
    if isinstance(loss, CrossEntropy):
        maps = is_score_map(network, next(iter(network.outputs)))
        return Segmentation(network, labels) if maps else Classification(network, labels)
    return Regression(network, labels)
