"""Training of Faster R-CNN: two losses in one pass, and a head that sees samples of the proposals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compiler.detection.boxes import decode, iou
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.module import build
from netspec.loading import check_source
from netspec.network import Network
from netspec.source import Source

# What the first stage gives is what is fed.
GIVEN = """
netspec: 1
inputs:
  image: {{shape: [N, 3, 100, 100]}}
  o: {{shape: [N, 5, {columns}]}}
  d: {{shape: [N, 5, 4]}}
  a: {{shape: [N, 5, 4]}}
net:
  objectness: {{identity: , from: o}}
  deltas: {{identity: , from: d}}
  anchors: {{identity: , from: a}}
  decoded: {{decode_boxes: [deltas, anchors]}}
  clipped: {{clip_boxes: [decoded, image]}}
  proposals: {{proposals: 4, training: 5, from: [objectness, clipped]}}
  class_scores: {{linear: 3}}
  box_deltas: {{linear: 12, from: proposals}}
outputs: [objectness, deltas, anchors, class_scores, box_deltas]
train: {{data: {{coco: boxes.json}}, loss: {loss}}}
"""

NET = """
netspec: 1
inputs: {image: {shape: [N, 3, H, W], sizes: {H: 64, W: 64}}}
net:
  stem: {conv: 16, kernel: 3, stride: 2, padding: 1}
  relu1: relu
  fine: {net: [{conv: 32, kernel: 3, stride: 2, padding: 1}, relu, {conv: 32, kernel: 3, stride: 2, padding: 1}, relu]}
  coarse: {net: [{conv: 32, kernel: 3, stride: 2, padding: 1}, relu]}
  rpn: {over: {p3: fine, p4: coarse}, net: [{conv: 32, kernel: 3, padding: 1}, relu]}
  mark: {conv: 3, kernel: 1, over: {p3: rpn.p3, p4: rpn.p4}}
  offset: {conv: 12, kernel: 1, over: {p3: rpn.p3, p4: rpn.p4}}
  objectness: {per_box: 1, from: [mark.p3, mark.p4]}
  deltas: {per_box: 4, from: [offset.p3, offset.p4]}
  anchors: {anchors: [16, 32], strides: [8, 16], from: [fine, coarse]}
  boxes: {decode_boxes: [deltas, anchors]}
  clipped: {clip_boxes: [boxes, image]}
  proposals: {proposals: 20, training: 60, from: [objectness, clipped]}
  pooled: {roi_align: 4, strides: [8, 16], canonical_size: 32, from: [fine, coarse, proposals]}
  flat: {reshape: [0, -1]}
  hidden: {linear: 64}
  relu: relu
  class_scores: {linear: 3}
  box_deltas: {linear: 12, from: relu}
outputs: [objectness, deltas, anchors, class_scores, box_deltas, proposals]
train: {data: {coco: boxes.json}, loss: {faster_rcnn: 32, rpn_samples: 32}}
"""

OBJECT = torch.tensor([[1.0, 0.0, 11.0, 10.0]])
ONE = Target.of(OBJECT, torch.tensor([1]))
NOTHING = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
IGNORED = Target.of(OBJECT, torch.tensor([1]), torch.tensor([True]))
# IoUs with the object: 9/11, 50/110, 30/110 and 0, 0. The last anchor crosses the image's border.
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 6, 10], [0.0, 0, 4, 10], [50.0, 50, 60, 60], [90.0, 90, 110, 110]])
IMAGE = torch.zeros(1, 3, 100, 100)


def network_of(text: str) -> Network:
    checked = check_source(Source("net.yaml", text))
    assert checked.network is not None, checked.diagnostics
    return checked.network


def losses(network: Network, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
    return make_criterion(network, network.sections["train"].loss).run(module, inputs, targets)


def given(loss: str, objectness: Tensor, deltas: Tensor) -> dict[str, float]:
    network = network_of(GIVEN.format(columns=objectness.shape[1], loss=loss))
    found = losses(network, build(network), (IMAGE, objectness[None], deltas[None], ANCHORS[None]), [ONE])
    return {name: value.item() for name, value in found.items()}


# The positive anchor's logit is 0: ln 2. Those of the negative ones are 0, ln 3 and ln 7: ln 2, ln 4 and ln 8.
# The object is 1/10 of the anchor's width to the right, below 1/9: 0.1²/(2/9) = 0.045. By 1 off in y: 1 − 1/18.
MARKS = torch.tensor([0.0, 99.0, 0.0, math.log(3), math.log(7)])
DELTAS = torch.tensor([[0.0, 1.0, 0.0, 0.0], *[[0.0] * 4] * 4])


def test_the_proposal_networks_loss_by_hand() -> None:
    """Four anchors are trained; the second, between the thresholds, is not."""
    found = given("faster_rcnn", MARKS[:, None], DELTAS)
    assert list(found) == ["objectness", "rpn_boxes", "classes", "boxes"]
    assert found["objectness"] == pytest.approx((2 + 2 + 3 + 1 - 1) * math.log(2) / 4, abs=1e-6)
    assert found["rpn_boxes"] == pytest.approx((0.045 + 1 - 1 / 18) / 4, abs=1e-6)


def test_anchors_across_the_border_are_left_out_where_that_is_said() -> None:
    """Ren et al. 2015, section 3.3: "we ignore all cross-boundary anchors so they do not contribute to the loss"."""
    found = given("{faster_rcnn: , cross_boundary: false, rpn_balance: 3}", MARKS[:, None], DELTAS)
    assert found["objectness"] == pytest.approx((1 + 1 + 2) * math.log(2) / 3, abs=1e-6)
    assert found["rpn_boxes"] == pytest.approx(3 * (0.045 + 1 - 1 / 18) / 3, abs=1e-6)


def test_two_columns_of_objectness_are_one_that_is_their_difference() -> None:
    columns = torch.stack((torch.full((5,), 2.0), MARKS + 2), 1)
    assert given("faster_rcnn", columns, DELTAS)["objectness"] == pytest.approx(
        given("faster_rcnn", MARKS[:, None], DELTAS)["objectness"], abs=1e-6
    )


def test_the_head_sees_samples_of_the_proposals_and_the_objects_themselves() -> None:
    network = network_of(GIVEN.format(columns=1, loss="faster_rcnn"))
    module = build(network)
    seen: list[Tensor] = []
    head: Any = module._modules["class_scores"]
    head.register_forward_hook(lambda layer, read, gives: seen.append(read[0]))
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    inputs = IMAGE, MARKS[None, :, None], torch.zeros(1, 5, 4), ANCHORS[None]
    found = losses(network, module, inputs, [ONE])
    assert found["classes"].item() == pytest.approx(math.log(3), abs=1e-6)
    regions = seen[0][0]
    # The proposals are the anchors, the last one cut off at the border; the object is one more.
    wanted = torch.cat((ANCHORS.clamp(max=100), OBJECT))
    assert sorted(regions[regions[:, 2] > 0].tolist()) == sorted(wanted.tolist())
    module.eval()
    module(*inputs)
    assert seen[1].shape == (1, 4, 4)  # served, it sees the proposals


def test_the_samples_are_no_more_there_once_the_loss_is_known_even_after_an_error() -> None:
    network = network_of(GIVEN.format(columns=1, loss="faster_rcnn"))
    module = build(network)
    proposals: Any = module._modules["proposals"]
    inputs = IMAGE, MARKS[None, :, None], torch.zeros(1, 5, 4), ANCHORS[None]
    losses(network, module, inputs, [ONE])
    assert not proposals._forward_hooks
    with pytest.raises(RuntimeError):
        losses(network, module, (*inputs[:3], ANCHORS[None, :3]), [ONE])
    assert not proposals._forward_hooks


BATCHES = {
    "no object": [NOTHING, NOTHING],
    "all ignored": [IGNORED, IGNORED],
    "one object": [ONE, NOTHING],
    "of all kinds": [ONE, IGNORED, NOTHING],
}


@pytest.mark.parametrize("batch", BATCHES)
def test_losses_and_gradients_are_numbers_whatever_is_in_the_images(batch: str) -> None:
    torch.manual_seed(0)
    network = network_of(NET)
    module = build(network)
    found = losses(network, module, (torch.rand(len(BATCHES[batch]), 3, 64, 64),), BATCHES[batch])
    assert all(value.shape == () and value.isfinite() for value in found.values())
    sum(found.values(), torch.tensor(0.0)).backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_losses_are_single_precision_where_the_net_works_in_half() -> None:
    torch.manual_seed(0)
    network = network_of(NET)
    module = build(network)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(network, module, (torch.rand(2, 3, 64, 64),), [ONE, NOTHING])
    assert {value.dtype for value in found.values()} == {torch.float32}
    sum(found.values(), torch.tensor(0.0)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())


def test_two_images_are_learnt_by_heart() -> None:
    """In evaluation mode the best proposal of each class, moved as the head says, is then the object."""
    torch.manual_seed(0)
    network = network_of(NET)
    module = build(network)
    images = torch.rand(2, 3, 64, 64) * 0.3
    objects = torch.tensor([[[8.0, 8, 28, 30], [36.0, 30, 60, 58]], [[30.0, 4, 58, 30], [4.0, 40, 22, 60]]])
    for image, (first, second) in zip(images, objects.int().tolist(), strict=True):
        image[0, first[1] : first[3], first[0] : first[2]] = 1
        image[2, second[1] : second[3], second[0] : second[2]] = 1
    targets = [Target.of(boxes, torch.tensor([0, 1])) for boxes in objects]
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(120):
        total = sum(losses(network, module, (images,), targets).values(), torch.tensor(0.0))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    given = dict(zip(network.outputs, module.eval()(images), strict=True))
    likely = given["class_scores"].softmax(2)[..., 1:]
    best = likely.argmax(1)
    for image in range(2):
        for label in range(2):
            region = best[image, label]
            deltas = given["box_deltas"][image, region].view(3, 4)[label + 1]
            box = decode(deltas, given["proposals"][image, region], (10, 10, 5, 5))
            assert likely[image, region, label] > 0.8
            assert iou(box, objects[image, label]) > 0.75
