"""A training step of the compiled YOLO v3 against the same net and losses in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.detector_steps import compare
from benchmarks.handwritten_yolo import YoloV3, yolov3_loss
from benchmarks.measuring import Result, publish
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.module import build
from netspec import load

BATCH = 2
SIZE = 256
OBJECTS = 8
ROUNDS = 12


def objects() -> list[tuple[Tensor, Tensor]]:
    """Boxes of all sizes, no two of them in one cell, and their labels for each image."""
    generator = torch.Generator().manual_seed(0)
    centres = (torch.cartesian_prod(torch.arange(4), torch.arange(2)) + 0.5) * torch.tensor([SIZE / 4, SIZE / 2])
    found = []
    for _ in range(BATCH):
        half = torch.rand(OBJECTS, 2, generator=generator) * 50 + 4
        labels = torch.randint(0, 80, (OBJECTS,), generator=generator)
        found.append((torch.cat([centres - half, centres + half], 1), labels))
    return found


def measure() -> Result:
    torch.set_num_threads(1)
    network = load("yolov3")
    compiled, by_hand = build(network).train(), YoloV3().train()
    weights = zip(by_hand.state_dict(), compiled.state_dict().values(), strict=True)
    by_hand.load_state_dict(dict(weights))
    criterion = make_criterion(network, network.sections["train"].loss)
    images, truth = torch.randn(BATCH, 3, SIZE, SIZE), objects()
    targets = [Target.of(boxes, labels) for boxes, labels in truth]

    def ours() -> Tensor:
        return sum(criterion.run(compiled, (images,), targets).values(), torch.zeros(()))

    def theirs() -> Tensor:
        return yolov3_loss(by_hand(images), truth)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-3)
    return compare(
        "yolo_training_step",
        f"a training step of the compiled YOLO v3 over the same net and losses by hand, batch {BATCH}, {SIZE} × {SIZE}",
        (compiled, ours),
        (by_hand, theirs),
        ROUNDS,
        weight_decay=5e-4,
    )


if __name__ == "__main__":
    publish(measure)
