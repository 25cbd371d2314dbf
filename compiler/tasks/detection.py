"""Objects in images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from compiler.batches import Batch, Place
from compiler.datasets.sample import Array, Sample
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.errors import CompilerError
from compiler.evaluation.detection import Found, Precision, average_precision
from compiler.gallery import draw_detections
from compiler.module import build
from compiler.tasks.base import SHOWN, Evaluation, Outcome, Task
from netspec.deployed import deployed, served_task
from netspec.network import Network


@dataclass(slots=True)
class Detected(Evaluation):
    """What was found in the held-out images.

    Attributes:
        shown: a few of them, with their pixels.
    """

    values: dict[str, float]
    precision: Precision
    found: list[Found]
    shown: list[tuple[Array, Found]]
    labels: tuple[str, ...]

    def report(self, folder: Path) -> list[str]:
        """Average precision in all, by the objects' size, and by class."""
        p = self.precision
        lines = [
            "| mAP | mAP50 | mAP75 | small | medium | large | recall |",
            "|--:|--:|--:|--:|--:|--:|--:|",
            f"| {' | '.join(map(percent, (p.map, p.map50, p.map75, p.small, p.medium, p.large, p.recall)))} |",
            "",
            "Average precision of the last weights as COCO defines it: over the IoU thresholds 0.50 to 0.95, at 0.50 "
            "and 0.75, and for objects below 32² pixels, below 96², and above; recall from 100 detections an image.",
            "",
            "| class | objects | AP | AP50 |",
            "|---|--:|--:|--:|",
        ]
        lines += [
            f"| {label} | {count:,} | {percent(whole)} | {percent(half)} |"
            for label, count, whole, half in zip(self.labels, p.objects, p.of_class, p.of_class50, strict=True)
        ]
        return lines

    def picture(self) -> Image.Image | None:
        return draw_detections(self.shown, self.labels)


def percent(value: float) -> str:
    """A fraction for a table."""
    return "–" if math.isnan(value) else f"{value:.1%}"


class Detection(Task):
    """Objects' boxes and classes; judged by the average precision of what the served form finds.

    Attributes:
        served: the served form without its preparation of images, once it was needed; it has the tensors of the network
            that is trained.
    """

    score = "map"
    titles: ClassVar[dict[str, str]] = {"map": "mAP", "map50": "mAP50"}

    def __init__(self, network: Network, labels: tuple[str, ...]) -> None:
        super().__init__(network, labels)
        self.criterion = make_criterion(network, network.sections["train"].loss)
        self.form = deployed(network, prepared=True)
        self.results = served_task(self.form)
        self.served: nn.Module | None = None
        if self.results.get("kind") != "detection":
            raise CompilerError(
                f"the served form of `{network.name}` finds no boxes, so that nothing can be measured",
                "let the layers of `deploy.net` end with `nms`, and its `outputs` name them",
            )

    def step(self, module: nn.Module, batch: Batch) -> Outcome:
        parts = self._losses(module, batch)
        return Outcome(torch.stack([*parts.values()]).sum(), parts if len(parts) > 1 else {})

    def _losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        targets = [target for target in batch.targets if isinstance(target, Target)]
        return self.criterion.run(module, batch.inputs, targets)

    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> Detected:
        if self.served is None:
            served = build(self.form, weights=module.state_dict()).eval()
            self.served = served.to(next(module.parameters()).device)
        sums: dict[str, float] = {}
        found: list[Found] = []
        shown: list[tuple[Array, Found]] = []
        for batch in batches:
            for name, value in self._losses(module, batch).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
            images = self._found(self.served, batch)
            shown += [(sample.image, image) for sample, image in zip(batch.samples, images, strict=True)]
            del shown[SHOWN:]
            found += images
        parts = {name: value / len(found) for name, value in sums.items()}
        precision = average_precision(found, self.labels)
        values = {"loss": sum(parts.values()), **(parts if len(parts) > 1 else {})}
        values |= {"map": precision.map, "map50": precision.map50}
        return Detected(values, precision, found, shown, self.labels)

    def _found(self, served: nn.Module, batch: Batch) -> list[Found]:
        """What the served form finds in each image of a batch, in that image's pixels."""
        given = dict(zip(self.form.outputs, served(*batch.inputs), strict=True))
        boxes, scores, labels, counts = (given[self.results[part]] for part in ("boxes", "scores", "labels", "counts"))
        rows = zip(batch.samples, batch.places, boxes.cpu(), scores.cpu(), labels.cpu(), counts.tolist(), strict=True)
        return [
            _in_image(sample, place, b[:count].numpy(), s[:count].numpy(), c[:count].numpy())
            for sample, place, b, s, c, count in rows
        ]


def _in_image(sample: Sample, place: Place, boxes: Array, scores: Array, labels: Array) -> Found:
    """Detections in pixels of the network's input as such of the image, kept within it."""
    height, width = sample.image.shape[:2]
    moved = (boxes.astype(np.float64) - np.tile(place.offset, 2)) / np.tile(place.scale, 2)
    limits = np.array([width, height, width, height])
    return Found(
        name=sample.name,
        size=(height, width),
        truth=sample.boxes,
        truth_labels=sample.labels,
        ignore=sample.ignore,
        boxes=np.clip(moved, 0, limits),
        scores=scores,
        labels=labels,
    )
