"""The losses of detectors that predict boxes at every place of a grid, as `train` names them.

Each finds in the ops behind the network's outputs what it has to know: anchors, strides, classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.choices import NonNegative, Whole
from netspec.detection_choices import DetectionLoss, Overlap


class GridLoss(DetectionLoss):
    """A loss of the numbers that grid heads give as `raw`.

    Attributes:
        head: the kind of op that gives them.
        levels: how many such heads a network may have; None for any number.
        scores: how the heads have to make scores of their numbers, where they can in several ways.
    """

    head: ClassVar[str]
    levels: ClassVar[int | None] = None
    scores: ClassVar[str | None] = None


class YoloV1(GridLoss):
    """Sum of squared errors; the box of a cell that overlaps its object most is responsible for it.

    `coordinates` and `no_object` are λcoord and λnoobj. Of several objects in a cell the first is found. Source: Redmon
    et al. 2015, "You only look once", equation 3.
    """

    kind = "yolov1"
    head = "yolo_grid"
    levels = 1
    coordinates: NonNegative = 5.0
    no_object: NonNegative = 0.5


class PriorLoss(GridLoss):
    """What is said of heads whose boxes are found by the shapes of priors, and how much each part of a loss weighs."""

    head = "yolo"
    boxes: Literal["squared", "giou", "ciou"] = "squared"
    ignore: Overlap = 0.5
    coordinates: NonNegative = 1.0
    object: NonNegative = 1.0
    no_object: NonNegative = 1.0
    classes: NonNegative = 1.0


class YoloV2(PriorLoss):
    """Half the squared errors of boxes and objectness, and softmax loss of the classes.

    Every object is found by the prior whose shape fits it best, in the cell of its centre; the objectness is to be the
    IoU of its box. The other boxes are to have none, unless they overlap an object by more than `ignore`. With `boxes:
    giou` or `ciou` the boxes' error is 1 minus that; with `objectness: logistic` that of the objectness is the logistic
    loss, whose gradient does not vanish where it is most wrong. Source: Redmon & Farhadi 2016, "YOLO9000", section 2;
    the weights and `ignore` are those of its authors' code, of which the pull towards the priors in the first 12,800
    images is left out.
    """

    kind = "yolov2"
    scores = "softmax"
    ignore: Overlap = 0.6
    object: NonNegative = 5.0
    objectness: Literal["squared", "logistic"] = "squared"


class YoloV3(PriorLoss):
    """Squared errors of boxes, and logistic losses of objectness and of each class.

    Every object is found by the prior of all levels whose shape fits it best, in the cell of its centre, and also by
    the priors whose shapes overlap it by more than `also`, which is none of them at 1. Other boxes are left out if
    their prior, or with `ignore_by: box` the box itself, overlaps an object by more than `ignore`. With `boxes: giou`
    or `ciou` the boxes' error is 1 minus that. Source: Redmon & Farhadi 2018, "YOLOv3", sections 2.1 and 2.2; its
    authors' code compares the boxes, as `ignore_by: box` does. `also` and `ciou`: Bochkovskiy et al. 2020, "YOLOv4",
    section 3.4.
    """

    kind = "yolov3"
    scores = "sigmoid"
    ignore_by: Literal["prior", "box"] = "prior"
    also: Overlap = 1.0


class AnchorFree(GridLoss):
    """Boxes as distances from places, of which those are trained that already find an object well.

    Of the places within an object the `candidates` with the greatest alignment sᵅ·uᵝ are positive: s is the score of
    the object's class, u the IoU of the box. Their scores are to be that alignment, normalised; `gamma` is the quality
    focal loss's, and 0 makes it plain binary cross-entropy. `balance` weighs 1 minus GIoU or CIoU of the boxes, `sides`
    the distribution focal loss of the distances. Source: Feng et al. 2021, "TOOD", section 3.2; Li et al. 2020,
    "Generalized focal loss", equation 6 and section 3, for the weights.
    """

    kind = "anchor_free"
    head = "distances"
    roles: ClassVar = {"scores": ("boxes", "columns")}
    candidates: Whole = 13
    alpha: NonNegative = 1.0
    beta: NonNegative = 6.0
    gamma: NonNegative = 2.0
    boxes: Literal["giou", "ciou"] = "giou"
    balance: NonNegative = 2.0
    sides: NonNegative = 0.25
