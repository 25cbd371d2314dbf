"""Whether the data that `train` names are what its loss compares, and how they are to be varied."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.choices import CrossEntropy
from netspec.data_choices import Coco, Pictures, Scenes, Voc, YoloText
from netspec.detection_choices import DetectionLoss
from netspec.diagnostics import Diagnostic
from netspec.recipe import Train
from netspec.source import Span
from netspec.yaml_reader import Entry, Mapping


def check_data(train: Train, entry: Entry) -> Iterator[Diagnostic]:
    """Losses of detectors take boxes, cross-entropy of maps takes masks; ranges go from the least to the greatest.

    Args:
        entry: `train`, for the places.
    """
    data, loss = train.data, train.loss
    boxes = isinstance(data, Pictures) and data.has_boxes
    masks = isinstance(data, Pictures) and data.has_masks
    span = _place(entry, "data")
    if isinstance(loss, DetectionLoss) and not boxes:
        message = f"`{loss.kind}` learns from boxes, and `{data.kind}` has none"
        yield Diagnostic("recipe-mismatch", message, span, help="write `data: scenes`, or `coco`, `voc` or `yolo`")
    elif masks and not isinstance(loss, DetectionLoss | CrossEntropy):
        message = f"masks name the classes of pixels, and `{loss.kind}` does not compare these"
        yield Diagnostic("recipe-mismatch", message, _place(entry, "loss"), help="write `loss: cross_entropy`")
    elif boxes and not masks and not isinstance(loss, DetectionLoss):
        message = f"`{data.kind}` has boxes, and `{loss.kind}` does not compare these"
        help = "write the loss of a detector" + (", or `outlines: true`" if data.kind == "coco" else "")
        yield Diagnostic("recipe-mismatch", message, _place(entry, "loss"), help=help)
    looks = isinstance(loss, DetectionLoss) and "proposals" in loss.fed
    if looks and isinstance(data, Coco | Voc | YoloText) and data.proposals is None:
        message = f"`{loss.kind}` looks at regions, and `{data.kind}` names no file of them"
        help = "make one with `netspec proposals`, and write `proposals: FILE.npz` beside it"
        yield Diagnostic("recipe-mismatch", message, span, help=help)
    if isinstance(data, Scenes):
        yield from _rising(data.shown, "shown", span)
        yield from _rising(data.scale, "scale", span)
    if train.augment is not None and not data.images:
        message = f"`augment` is for images, and `{data.kind}` holds arrays"
        yield Diagnostic("recipe-mismatch", message, _place(entry, "augment"), help="remove it")
    if train.augment is not None:
        yield from _rising(train.augment.scale, "scale", _place(entry, "augment"))


def _rising(pair: tuple[float, float], name: str, span: Span) -> Iterator[Diagnostic]:
    if pair[0] > pair[1]:
        message = f"`{name}` goes from {pair[0]:g} to {pair[1]:g}"
        yield Diagnostic("out-of-range", message, span, help=f"write `{name}: [{pair[1]:g}, {pair[0]:g}]`")


def _place(entry: Entry, key: str) -> Span:
    """Where `train` says something; the section's name where it does not."""
    assert isinstance(entry.value, Mapping)
    node = entry.value.get(key)
    return node.span if node else entry.key.span
