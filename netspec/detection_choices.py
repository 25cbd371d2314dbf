"""The losses of object detectors, as `train` names them.

Each reads the network's outputs by name; `docs/detection-losses.md` has the formulas.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field as Argument

from netspec.choices import Choice, NonNegative, Positive, Whole

Overlap = Annotated[float, Argument(gt=0, le=1)]
Least = Annotated[float, Argument(ge=0, lt=1)]
Portion = Annotated[float, Argument(ge=0, le=1)]
# What the offsets x, y, w, h are multiplied by: those that `decode_boxes` divides by.
OffsetWeights = Annotated[tuple[Positive, ...], Argument(min_length=4, max_length=4)]

# One size of an output: a number, a name that stands for the same size wherever it is used, or so many times that.
Size = int | str | tuple[int, str]


class DetectionLoss(Choice):
    """A loss that compares boxes and their classes.

    Attributes:
        roles: the outputs that it reads, with their sizes after the batch; `columns` are classes and the background.
        fed: the inputs that it needs beside the images, likewise.
        offsets: the outputs that are offsets of boxes, each with the argument that has their weights.
        background: whether the first of the columns is the background's.
    """

    roles: ClassVar[Mapping[str, tuple[Size, ...]]] = {}
    fed: ClassVar[Mapping[str, tuple[Size, ...]]] = {}
    offsets: ClassVar[Mapping[str, str]] = {}
    background: ClassVar[bool] = False


class AnchorLoss(DetectionLoss):
    """What is said of a head that gives a score for each class, and offsets, to every anchor."""

    roles = {"scores": ("boxes", "columns"), "deltas": ("boxes", 4), "anchors": ("boxes", 4)}
    offsets = {"deltas": "offset_weights"}


class Ssd(AnchorLoss):
    """Softmax loss of positive boxes and the hardest negative ones, and smooth L1 of the offsets of the positive ones.

    `iou` makes a box positive, `negatives` are kept for each positive one, `alpha` weighs the offsets. Source: Liu et
    al. 2016, equations 1 to 3; the weights of the offsets are those of its authors' code.
    """

    kind = "ssd"
    background = True
    iou: Overlap = 0.5
    negatives: Positive = 3.0
    alpha: NonNegative = 1.0
    offset_weights: OffsetWeights = (10.0, 10.0, 5.0, 5.0)


class RetinaNet(AnchorLoss):
    """Focal loss of all boxes, and smooth L1 of the offsets, or 1 − GIoU, of the positive ones.

    `alpha` and `gamma` are the focal loss's; a box is positive from the IoU `positive` on, negative below `negative`;
    with `low_quality` so are the boxes that overlap an object most. `beta` is where smooth L1 becomes straight;
    `balance` weighs the boxes. Source: Lin et al. 2017, "Focal loss", equation 5 and section 4; `beta` is that of its
    authors' code.
    """

    kind = "retinanet"
    alpha: Portion = 0.25
    gamma: NonNegative = 2.0
    positive: Overlap = 0.5
    negative: Overlap = 0.4
    low_quality: bool = True
    boxes: Literal["smooth_l1", "giou"] = "smooth_l1"
    beta: NonNegative = 1 / 9
    balance: NonNegative = 1.0
    offset_weights: OffsetWeights = (1.0, 1.0, 1.0, 1.0)


class RegionLoss(DetectionLoss):
    """What is said of a head that looks at regions.

    Of each image `samples` regions are trained, of which at most `share` are positive, from the IoU `iou` on; the
    others are background, from `least` on. `balance` weighs the offsets; `beta` is where smooth L1 becomes straight.
    """

    background = True
    samples: Whole = 64
    share: Portion = 0.25
    iou: Overlap = 0.5
    least: Least = 0.1
    balance: NonNegative = 1.0
    beta: NonNegative = 1.0
    offset_weights: OffsetWeights = (10.0, 10.0, 5.0, 5.0)


class FastRcnn(RegionLoss):
    """Softmax loss of regions, and smooth L1 of the offsets of the positive ones.

    Source: Girshick 2015, equations 1 to 3 and section 2.3; the weights of the offsets stand for the normalisation of
    their targets.
    """

    kind = "fast_rcnn"
    roles = {"class_scores": ("regions", "columns"), "box_deltas": ("regions", (4, "columns"))}
    fed = {"proposals": ("regions", 4)}
    offsets = {"box_deltas": "offset_weights"}


class FasterRcnn(RegionLoss):
    """The losses of the region proposal network, and those of `fast_rcnn` on samples of its proposals.

    Of each image `rpn_samples` anchors are trained, of which at most `rpn_share` are positive: those from the IoU
    `rpn_positive` on, and those that overlap an object most; negative ones are below `rpn_negative`. `rpn_balance`
    weighs the anchors' offsets, `rpn_beta` is where smooth L1 becomes straight. With `cross_boundary: false` anchors
    across the image's border are not trained. Source: Ren et al. 2015, equation 1 and section 3.1; Lin et al. 2017,
    "Feature pyramid networks", section 5, for 512 regions and anchors across the border; `rpn_beta` is that of Ren's
    code.
    """

    kind = "faster_rcnn"
    roles = {
        "objectness": ("boxes", "marks"),
        "deltas": ("boxes", 4),
        "anchors": ("boxes", 4),
        "class_scores": ("regions", "columns"),
        "box_deltas": ("regions", (4, "columns")),
    }
    offsets = {"deltas": "rpn_offset_weights", "box_deltas": "offset_weights"}
    samples: Whole = 512
    least: Least = 0.0
    rpn_samples: Whole = 256
    rpn_share: Portion = 0.5
    rpn_positive: Overlap = 0.7
    rpn_negative: Overlap = 0.3
    rpn_balance: NonNegative = 1.0
    rpn_beta: NonNegative = 1 / 9
    rpn_offset_weights: OffsetWeights = (1.0, 1.0, 1.0, 1.0)
    cross_boundary: bool = True
