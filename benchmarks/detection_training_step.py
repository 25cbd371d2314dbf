"""A training step of the compiled Faster R-CNN with a feature pyramid against the same net and losses by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.detector_steps import compare
from benchmarks.handwritten_detector import FasterRcnn
from benchmarks.measuring import Result, publish
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.module import build
from netspec.loading import check_source
from netspec.network import Network
from netspec.source import Source
from netspec.zoo import find_spec

BATCH = 2
SIZE = 256
OBJECTS = 8
CLASSES = 90
ROUNDS = 10

LEVELS = """
  anchors{level}: {{anchors: [{size}], strides: [{stride}], from: {map}}}
  decoded{level}: {{decode_boxes: [deltas.p{level}, anchors{level}]}}
  boxes{level}: {{clip_boxes: [decoded{level}, image]}}
"""
SPEC = """
netspec: 1
use: [{blocks}]
inputs: {{image: {{shape: [N, 3, H, W], sizes: {{H: {size}, W: {size}}}}}}}
net:
  backbone: {{resnet: }}
  inner2: {{conv: 256, kernel: 1, from: backbone.layer1}}
  inner3: {{conv: 256, kernel: 1, from: backbone.layer2}}
  inner4: {{conv: 256, kernel: 1, from: backbone.layer3}}
  inner5: {{conv: 256, kernel: 1, from: backbone.layer4}}
  up4: {{resize_like: [inner5, inner4]}}
  sum4: {{add: [inner4, up4]}}
  up3: {{resize_like: [sum4, inner3]}}
  sum3: {{add: [inner3, up3]}}
  up2: {{resize_like: [sum3, inner2]}}
  sum2: {{add: [inner2, up2]}}
  p2: {{conv: 256, kernel: 3, padding: 1, from: sum2}}
  p3: {{conv: 256, kernel: 3, padding: 1, from: sum3}}
  p4: {{conv: 256, kernel: 3, padding: 1, from: sum4}}
  p5: {{conv: 256, kernel: 3, padding: 1, from: inner5}}
  p6: {{maxpool: 1, stride: 2}}
  head: {{over: [p2, p3, p4, p5, p6], net: [{{conv: 256, kernel: 3, padding: 1}}, relu]}}
  mark: {{conv: 3, kernel: 1, over: head}}
  offset: {{conv: 12, kernel: 1, over: head}}
  marks: {{per_box: 1, over: mark}}
  deltas: {{per_box: 4, over: offset}}
  {levels}
  objectness: {{concat: [marks.p2, marks.p3, marks.p4, marks.p5, marks.p6], axis: 1}}
  offsets: {{concat: [deltas.p2, deltas.p3, deltas.p4, deltas.p5, deltas.p6], axis: 1}}
  anchors: {{concat: [anchors2, anchors3, anchors4, anchors5, anchors6], axis: 1}}
  proposals:
    proposals: 1000
    from: [marks.p2, marks.p3, marks.p4, marks.p5, marks.p6, boxes2, boxes3, boxes4, boxes5, boxes6]
  pooled: {{roi_align: 7, strides: [4, 8, 16, 32], from: [p2, p3, p4, p5, proposals]}}
  flat: {{reshape: [0, -1]}}
  fc6: {{linear: 1024}}
  relu6: relu
  fc7: {{linear: 1024}}
  relu7: relu
  class_scores: {{linear: {columns}}}
  box_deltas: {{linear: 4 * {columns}, from: relu7}}
outputs:
  objectness: objectness
  deltas: offsets
  anchors: anchors
  class_scores: class_scores
  box_deltas: box_deltas
train:
  data: {{coco: boxes.json}}
  loss: {loss}
"""


def faster_rcnn(loss: str) -> Network:
    levels = "".join(
        LEVELS.format(level=level, map=f"p{level}", stride=2**level, size=2 ** (level + 3)) for level in range(2, 7)
    )
    blocks = find_spec("resnet50").parent.parent / "blocks" / "residual.yaml"
    text = SPEC.format(blocks=blocks, size=SIZE, levels=levels.strip(), columns=CLASSES + 1, loss=loss)
    checked = check_source(Source("faster_rcnn.yaml", text))
    assert checked.network is not None, checked.diagnostics
    return checked.network


def batch() -> tuple[Tensor, list[Target]]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(BATCH, OBJECTS, 2, generator=generator) * SIZE * 0.7
    sides = torch.rand(BATCH, OBJECTS, 2, generator=generator) * SIZE * 0.2 + SIZE * 0.05
    boxes = torch.cat((corners, corners + sides), 2)
    labels = torch.randint(0, CLASSES, (BATCH, OBJECTS), generator=generator)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    return images, [Target.of(*each) for each in zip(boxes, labels, strict=True)]


def sides(loss: str, *numbers: float) -> tuple[nn.Module, dict[str, Callable[[], dict[str, Tensor]]], nn.Module]:
    """Both modules with the same weights, and what works out the losses of each on the same batch."""
    network = faster_rcnn(loss)
    compiled, by_hand = build(network).train(), FasterRcnn(CLASSES, *numbers).train()
    state = compiled.state_dict()
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), state.values(), strict=True)))
    criterion = make_criterion(network, network.sections["train"].loss)
    images, targets = batch()
    objects, labels = [target.boxes for target in targets], [target.labels for target in targets]
    losses = {
        "compiled": lambda: criterion.run(compiled, (images,), targets),
        "by hand": lambda: by_hand(images, objects, labels),
    }
    return compiled, losses, by_hand


def check_they_agree() -> None:
    """Where every box is sampled there is no chance: all losses and gradients are the same."""
    loss = "{faster_rcnn: 100000, share: 1.0, rpn_samples: 100000, rpn_share: 1.0}"
    compiled, losses, by_hand = sides(loss, 100000, 1.0, 100000, 1.0)
    ours, theirs = (losses[side]() for side in ("compiled", "by hand"))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    for found in (ours, theirs):
        torch.stack(list(found.values())).sum().backward()
    for a, b in zip(compiled.parameters(), by_hand.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert float((a.grad - b.grad).norm() / (b.grad.norm() + 1e-6)) < 1e-2


def measure() -> Result:
    torch.set_num_threads(1)
    check_they_agree()
    compiled, losses, by_hand = sides("faster_rcnn", 256, 0.5, 512, 0.25)

    def total(side: str) -> Tensor:
        return torch.stack(list(losses[side]().values())).sum()

    return compare(
        "detection_training_step",
        f"a training step of the compiled Faster R-CNN with a feature pyramid over the same by hand, batch {BATCH}, "
        f"{SIZE} × {SIZE}, {OBJECTS} objects, CPU",
        (compiled, partial(total, "compiled")),
        (by_hand, partial(total, "by hand")),
        ROUNDS,
    )


if __name__ == "__main__":
    publish(measure)
