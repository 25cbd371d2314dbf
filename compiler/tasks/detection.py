"""Objects in images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
from compiler.metrics import known
from compiler.module import build
from compiler.tasks.base import SHOWN, Evaluation, Outcome, Table, Task, percent
from netspec.deployed import deployed, served_task
from netspec.network import Network

UNMOVED = Place((1.0, 1.0), (0.0, 0.0))


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

    def table(self) -> Table:
        p = self.precision
        rows = [
            (label, f"{count:,}", percent(whole), percent(half))
            for label, count, whole, half in zip(self.labels, p.objects, p.of_class, p.of_class50, strict=True)
        ]
        return Table(("class", "objects", "AP", "AP50"), rows)

    def facts(self) -> dict[str, Any]:
        p = self.precision
        names = ("map", "map50", "map75", "small", "medium", "large", "recall")
        classes = [
            {"label": label, "objects": count, "ap": known(whole), "ap50": known(half)}
            for label, count, whole, half in zip(self.labels, p.objects, p.of_class, p.of_class50, strict=True)
        ]
        measured = {name: known(getattr(p, name)) for name in names}
        return Evaluation.facts(self) | measured | {"images": len(self.found), "classes": classes}

    def report(self, folder: Path) -> list[str]:
        """Average precision in all, by the objects' size, and by class."""
        p = self.precision
        shares = (p.map, p.map50, p.map75, p.small, p.medium, p.large, p.recall)
        return [
            "| mAP | mAP50 | mAP75 | small | medium | large | recall |",
            "|--:|--:|--:|--:|--:|--:|--:|",
            f"| {' | '.join(map(percent, shares))} |",
            "",
            "Average precision of the last weights as COCO defines it: over the IoU thresholds 0.50 to 0.95, at 0.50 "
            "and 0.75, and for objects below 32² pixels, below 96², and above; recall from 100 detections an image.",
            "",
            *self.table().markdown(),
        ]

    def picture(self) -> Image.Image | None:
        return draw_detections(self.shown, self.labels) if self.shown else None


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

        def seen(served: nn.Module) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
            for batch in batches:
                for name, value in self._losses(module, batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
                yield batch, dict(zip(self.form.outputs, served(*batch.inputs), strict=True))

        detected = self.judged(seen(self.served))
        parts = {name: value / len(detected.found) for name, value in sums.items()}
        detected.values |= {"loss": sum(parts.values()), **(parts if len(parts) > 1 else {})}
        return detected

    def judged(self, batches: Iterable[tuple[Batch, Mapping[str, Tensor]]], placed: bool = False) -> Detected:
        """The average precision of what is found in images.

        Args:
            batches: each with the outputs of the served form by name.
            placed: whether the boxes are in pixels of the image, and not in those of the network's input.
        """
        found: list[Found] = []
        shown: list[tuple[Array, Found]] = []
        for batch, outputs in batches:
            parts = (outputs[self.results[part]] for part in ("boxes", "scores", "labels", "counts"))
            boxes, scores, labels, counts = (part.float().cpu() for part in parts)
            places = [UNMOVED] * len(batch) if placed else batch.places
            for index, (sample, place) in enumerate(zip(batch.samples, places, strict=True)):
                kept = slice(0, int(counts[index]))
                of_image = (part[index, kept].numpy() for part in (boxes, scores, labels))
                found.append(_in_image(sample, place, *of_image))
                if len(shown) < SHOWN:
                    shown.append((sample.image, found[-1]))
        precision = average_precision(found, self.labels)
        values = {"map": precision.map, "map50": precision.map50}
        return Detected(values, precision, found, shown, self.labels)


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
        labels=labels.astype(np.int64),
    )
