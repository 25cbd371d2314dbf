"""From a detector's loss, as `train` names it, to what works it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compiler.detection.anchor_free import AnchorFreeCriterion
from compiler.detection.anchored import YoloV2Criterion, YoloV3Criterion
from compiler.detection.criterion import Criterion
from compiler.detection.regions import FasterRcnnCriterion, FastRcnnCriterion
from compiler.detection.retinanet import RetinaNetCriterion
from compiler.detection.ssd import SsdCriterion
from compiler.detection.yolov1 import YoloV1Criterion
from netspec.detection_choices import DetectionLoss, FasterRcnn, FastRcnn, RetinaNet, Ssd
from netspec.grid_choices import AnchorFree, YoloV1, YoloV2, YoloV3
from netspec.network import Network

CRITERIA: dict[type[DetectionLoss], Callable[[Network, Any], Criterion]] = {
    Ssd: SsdCriterion,
    RetinaNet: RetinaNetCriterion,
    FastRcnn: FastRcnnCriterion,
    FasterRcnn: FasterRcnnCriterion,
    YoloV1: YoloV1Criterion,
    YoloV2: YoloV2Criterion,
    YoloV3: YoloV3Criterion,
    AnchorFree: AnchorFreeCriterion,
}


def make_criterion(network: Network, choice: DetectionLoss) -> Criterion:
    """The loss of a network whose outputs were checked for it."""
    return CRITERIA[type(choice)](network, choice)
