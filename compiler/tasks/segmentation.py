"""Classes of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from compiler.batches import Batch
from compiler.evaluation.segmentation import confusion, iou, mean_iou, pixel_accuracy
from compiler.mask_pictures import Array, side_by_side
from compiler.metrics import known
from compiler.tasks.base import Evaluation, Table, percent
from compiler.tasks.outputs import OutputTask
from netspec.deployed import preparation
from netspec.network import Network
from netspec.outputs import is_image

SHOWN = 6  # held-out images in a picture


@dataclass(slots=True)
class Segmented(Evaluation):
    """The classes that the pixels of held-out images were taken for.

    Attributes:
        counts: pixels by true and predicted class.
        rows: a few images, H × W × 3, with their true and their predicted masks.
    """

    values: dict[str, float]
    counts: Tensor
    labels: tuple[str, ...]
    rows: list[tuple[Array, Array, Array]] = field(repr=False)

    def table(self) -> Table:
        counts, shares = self.counts.sum(1).tolist(), iou(self.counts).tolist()
        rows = [
            (name, f"{pixels:,}", percent(share))
            for name, pixels, share in zip(self.labels, counts, shares, strict=True)
        ]
        return Table(("class", "pixels", "intersection over union"), rows)

    def facts(self) -> dict[str, Any]:
        counts, shares = self.counts.sum(1).tolist(), iou(self.counts).tolist()
        classes = [
            {"label": name, "pixels": pixels, "iou": known(share)}
            for name, pixels, share in zip(self.labels, counts, shares, strict=True)
        ]
        return Evaluation.facts(self) | {"classes": classes}

    def picture(self) -> Image.Image | None:
        return side_by_side(self.rows) if self.rows else None


class Segmentation(OutputTask):
    """Logits N × classes × H × W against class numbers N × H × W; judged by the mean intersection over union."""

    score = "miou"
    titles: ClassVar[dict[str, str]] = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}

    def __init__(self, network: Network, labels: tuple[str, ...]) -> None:
        super().__init__(network, labels)
        first = next(iter(network.outputs.values()))
        classes = network.layer(first)["output"].shape[1]
        assert isinstance(classes, int), "the spec was checked for this loss"
        self.classes = classes
        self.ignore = network.sections["train"].loss.ignore
        self.labels = labels or tuple(str(number) for number in range(classes))
        image = next(name for name in network.inputs if is_image(network, name))
        self.place = network.inputs.index(image)
        self.prepared = preparation(network, image)

    def followed(self, judged: Tensor, targets: Tensor) -> dict[str, Tensor]:
        counted = targets != self.ignore
        right = (judged.argmax(1) == targets) & counted
        return {"pixel_accuracy": right.sum().double() / counted.sum().clamp(min=1)}

    def evaluate(self, module: nn.Module, batches: Iterable[Batch]) -> Segmented:
        loss, count = 0.0, 0
        counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        rows: list[tuple[Array, Array, Array]] = []
        for batch, targets, judged, of_batch in self.answers(module, batches):
            loss += of_batch
            count += len(batch)
            found = judged.argmax(1)
            counts += confusion(found, targets, self.classes, self.ignore).cpu()
            for index in range(min(len(batch), SHOWN - len(rows))):
                rows.append((self.pixels(batch.inputs[self.place][index]), _mask(targets[index]), _mask(found[index])))
        values = {"loss": loss / count, "miou": mean_iou(counts), "pixel_accuracy": pixel_accuracy(counts)}
        return Segmented(values, counts, self.labels, rows)

    def pixels(self, image: Tensor) -> Array:
        """An image as the network reads it, C × H × W, as pixels H × W × 3."""
        mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (self.prepared.mean, self.prepared.std))
        shown = ((image.float().cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(shown.expand(3, -1, -1).permute(1, 2, 0).numpy())


def _mask(numbers: Tensor) -> Array:
    return numbers.to(torch.uint8).cpu().numpy()
