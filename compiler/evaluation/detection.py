"""How good detections are, beside the truth: average precision as COCO defines it, worked out by pycocotools.

Source: Lin et al. 2014, "Microsoft COCO"; cocodataset.org, "Detection evaluation": the mean over the IoU thresholds
0.50, 0.55, … 0.95 and over the classes, of the precision at 101 levels of recall, from at most 100 detections an image.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from compiler.datasets.sample import Array

FIRST = 1  # COCO's numbers of images and classes begin with this


@dataclass(frozen=True, slots=True)
class Found:
    """What is in an image, and what was found there; boxes are left, top, right, bottom, in pixels of the image.

    Attributes:
        size: its height and width.
        truth, truth_labels, ignore: its objects: n × 4, n class numbers from 0, n bool.
        boxes, scores, labels: the detections: m × 4, m, m.
    """

    name: str
    size: tuple[int, int]
    truth: Array
    truth_labels: Array
    ignore: Array
    boxes: Array
    scores: Array
    labels: Array


@dataclass(frozen=True, slots=True)
class Precision:
    """Average precision: fractions, NaN where there are no objects.

    Attributes:
        map, map50, map75: the means over the classes: over all thresholds, at an IoU of 0.5, of 0.75.
        small, medium, large: as `map`, for objects below 32² pixels, below 96², and above.
        recall: the mean recall from at most 100 detections an image.
        of_class, of_class50: as `map` and `map50`, for each class.
        objects: of each class, without the ignored ones.
    """

    map: float
    map50: float
    map75: float
    small: float
    medium: float
    large: float
    recall: float
    of_class: tuple[float, ...]
    of_class50: tuple[float, ...]
    objects: tuple[int, ...]


def average_precision(found: Sequence[Found], labels: Sequence[str]) -> Precision:
    """The average precision of detections; ignored objects are crowds to it, which may be found any number of times."""
    with _silent():
        truth = COCO()
        truth.dataset = coco_truth(found, labels)
        truth.createIndex()
        results = coco_results(found)
        measured = COCOeval(truth, truth.loadRes(results) if results else _nothing(truth), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    stats = [_fraction(value) for value in measured.stats]
    precision = measured.eval["precision"][:, :, :, 0, -1]  # thresholds × recall levels × classes
    counts = np.zeros(len(labels), dtype=int)
    for image in found:
        counts += np.bincount(image.truth_labels[~image.ignore], minlength=len(labels))
    return Precision(
        map=stats[0],
        map50=stats[1],
        map75=stats[2],
        small=stats[3],
        medium=stats[4],
        large=stats[5],
        recall=stats[8],
        of_class=tuple(_fraction(precision[:, :, index].mean()) for index in range(len(labels))),
        of_class50=tuple(_fraction(precision[0, :, index].mean()) for index in range(len(labels))),
        objects=tuple(counts.tolist()),
    )


def coco_truth(found: Sequence[Found], labels: Sequence[str]) -> dict[str, Any]:
    """The objects of images as a COCO data set; images and classes are numbered from 1 in their order."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(found, FIRST):
        for box, label, ignore in zip(_corner_and_size(image.truth), image.truth_labels, image.ignore, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + FIRST,
                    "image_id": number,
                    "category_id": int(label) + FIRST,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(ignore),
                }
            )
    return {
        "info": {},
        "images": [
            {"id": number, "file_name": image.name, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(found, FIRST)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, FIRST)],
        "annotations": annotations,
    }


def coco_results(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The detections as COCO's results, numbered as in `coco_truth`."""
    return [
        {"image_id": number, "category_id": int(label) + FIRST, "bbox": box, "score": float(score)}
        for number, image in enumerate(found, FIRST)
        for box, label, score in zip(_corner_and_size(image.boxes), image.labels, image.scores, strict=True)
    ]


def _corner_and_size(boxes: Array) -> list[list[float]]:
    """Boxes as left, top, width, height."""
    corners = boxes.astype(np.float64).reshape(-1, 4)
    rows: list[list[float]] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    return rows


def _nothing(truth: COCO) -> COCO:
    """No detections, which `loadRes` does not take."""
    empty = COCO()
    empty.dataset = truth.dataset | {"annotations": []}
    empty.createIndex()
    return empty


def _fraction(value: float) -> float:
    """A value of pycocotools, which writes −1 where there are no objects."""
    return float(value) if value > -1 else float("nan")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
