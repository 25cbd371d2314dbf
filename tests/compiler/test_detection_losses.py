"""The losses of detectors, against numbers worked by hand, their definitions, and what their papers say of them."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from compiler.detection.boxes import decode, encode
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.detection.losses import focal_loss
from compiler.module import build
from netspec.detection_choices import RegionLoss
from netspec.loading import check_source
from netspec.network import Network
from netspec.source import Source

IMAGE = torch.zeros(1, 3, 100, 100)

# The outputs are what is fed, so that a test says what a network would give.
GIVEN = """
netspec: 1
inputs:
  image: {{shape: [N, 3, 100, 100]}}
  s: {{shape: [N, {boxes}, {columns}]}}
  d: {{shape: [N, {boxes}, 4]}}
  a: {{shape: [N, {boxes}, 4]}}
net:
  scores: {{identity: , from: s}}
  deltas: {{identity: , from: d}}
  anchors: {{identity: , from: a}}
outputs: [scores, deltas, anchors]
train: {{data: {{coco: boxes.json}}, loss: {loss}}}
"""

# A net that knows each box only by its number: enough to learn one image by heart.
LEARNED = """
netspec: 1
inputs:
  image: {{shape: [N, 3, 100, 100]}}
  a: {{shape: [N, {boxes}, 4]}}
net:
  shrink: {{avgpool: 20, from: image}}
  flatten: flatten
  hidden: {{linear: 32}}
  relu: relu
  fc: {{linear: {boxes} * {columns}}}
  scores: {{reshape: [{boxes}, {columns}]}}
  fc2: {{linear: {boxes} * 4, from: relu}}
  deltas: {{reshape: [{boxes}, 4]}}
  anchors: {{identity: , from: a}}
outputs: [scores, deltas, anchors]
train: {{data: {{coco: boxes.json}}, loss: {loss}}}
"""

# A head that sees a region's corners alone.
REGIONS = """
netspec: 1
inputs:
  image: {shape: [N, 3, 100, 100]}
  proposals: {shape: [N, P, 4], sizes: {P: 8}}
net:
  hidden: {linear: 64, from: proposals}
  relu: relu
  class_scores: {linear: 3}
  box_deltas: {linear: 12, from: relu}
outputs: [class_scores, box_deltas]
train: {data: {coco: boxes.json, proposals: regions.npz}, loss: fast_rcnn}
"""

# The object is 10 × 10 and lies 1 to the right of the first anchor.
OBJECT = torch.tensor([[1.0, 0.0, 11.0, 10.0]])
LABEL = 1


def network_of(text: str) -> Network:
    checked = check_source(Source("net.yaml", text))
    assert checked.network is not None, checked.diagnostics
    return checked.network


def losses(network: Network, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
    return make_criterion(network, network.sections["train"].loss).run(module, inputs, targets)


def given(loss: str, scores: Tensor, deltas: Tensor, anchors: Tensor, targets: list[Target]) -> dict[str, float]:
    """The parts of a loss of these outputs, for a batch of one."""
    network = network_of(GIVEN.format(boxes=len(anchors), columns=scores.shape[1], loss=loss))
    found = losses(network, build(network), (IMAGE, scores[None], deltas[None], anchors[None]), targets)
    return {name: value.item() for name, value in found.items()}


def target(boxes: Tensor, labels: list[int], ignore: list[bool] | None = None) -> Target:
    return Target.of(boxes, torch.tensor(labels), None if ignore is None else torch.tensor(ignore))


def wide(*widths: float) -> Tensor:
    return torch.tensor([[0.0, 0.0, width, 10.0] for width in widths])


def scaled(factors: list[float], columns: int = 3) -> Tensor:
    """Logits that make the first column so many times as likely as each other one."""
    logits = torch.zeros(len(factors), columns)
    logits[:, 0] = torch.tensor(factors).log()
    return logits


def test_ssd_by_hand() -> None:
    # IoU with the object: (9·10)/(100 + 100 − 90) = 9/11 of the first, 30/110 of the second, less of the others.
    anchors = wide(10, 4, 3, 2, 1, 0.5)
    # The positive one: −ln(1/3) = ln 3. The negative ones: −ln(a/(a + 2)) = ln((a + 2)/a), which is ln 2, ln 3, ln 4/3,
    # ln 10/9, ln 5. The three hardest are ln 5, ln 3 and ln 2; 3·5·3·2 = 90.
    scores = scaled([1, 2, 1, 6, 18, 0.5])
    # The object is 1/10 of the anchor's width to the right, which counts 10 times: 1. Off by 1/2, and by 3 in y:
    # (1/2)²/2 + (3 − 1/2) = 2.625.
    deltas = torch.full((6, 4), 7.0)
    deltas[0] = torch.tensor([0.5, 3.0, 0.0, 0.0])
    found = given("ssd", scores, deltas, anchors, [target(OBJECT, [LABEL])])
    assert found == pytest.approx({"classes": math.log(90), "boxes": 2.625}, abs=1e-5)
    halved = given("{ssd: , negatives: 1, alpha: 0.5}", scores, deltas, anchors, [target(OBJECT, [LABEL])])
    assert halved == pytest.approx({"classes": math.log(15), "boxes": 2.625 / 2}, abs=1e-5)


def test_ssd_learns_the_class_of_the_object() -> None:
    """Column 0 is the background, so the class 1 is column 2."""
    anchors, deltas = wide(10, 4), torch.zeros(2, 4)
    scores = torch.tensor([[0.0, 0.0, 50.0], [50.0, 0.0, 0.0]])
    assert given("ssd", scores, deltas, anchors, [target(OBJECT, [1])])["classes"] == pytest.approx(0, abs=1e-6)
    assert given("ssd", scores, deltas, anchors, [target(OBJECT, [0])])["classes"] == pytest.approx(50, abs=1e-3)


RETINA_ANCHORS = torch.cat((wide(10, 7, 6), torch.tensor([[50.0, 50.0, 60.0, 60.0]])))
# The second anchor's centre is 3.5, the object's 6: (6 − 3.5)/7. It is 7 wide, the object 10.
EXACT = torch.tensor([2.5 / 7, 0.0, math.log(10 / 7), 0.0])


def test_retinanet_by_hand() -> None:
    # IoUs: 90/110, 60/(70 + 100 − 60) = 60/110, 50/(60 + 100 − 50) = 50/110: two positive, one neither, one negative.
    # All logits are 0, pₜ = 1/2: α·¼·ln 2 = ln 2/16 of a class that is there, (1 − α)·¼·ln 2 = 3·ln 2/16 of one that is
    # not. Two classes: 4/16 for each positive anchor, 6/16 for the negative one: 14/16·ln 2, divided by 2 anchors.
    # The first offsets are off by 1/10 < 1/9: 0.1²/(2/9) = 0.045; the second by 1 in y: 1 − 1/18.
    deltas = torch.full((4, 4), 7.0)
    deltas[0] = 0
    deltas[1] = EXACT + torch.tensor([0.0, 1.0, 0.0, 0.0])
    found = given("retinanet", torch.zeros(4, 2), deltas, RETINA_ANCHORS, [target(OBJECT, [LABEL])])
    assert found == pytest.approx({"classes": 7 / 16 * math.log(2), "boxes": (0.045 + 1 - 1 / 18) / 2}, abs=1e-6)


def test_retinanet_with_generalised_iou_by_hand() -> None:
    # Without offsets the first anchor is 90/110 of the object, and the box around both is their union: 1 − 9/11 = 2/11.
    deltas = torch.zeros(4, 4)
    deltas[1] = EXACT
    loss = "{retinanet: , boxes: giou, balance: 2}"
    found = given(loss, torch.zeros(4, 2), deltas, RETINA_ANCHORS, [target(OBJECT, [LABEL])])
    assert found["boxes"] == pytest.approx(2 * (2 / 11) / 2, abs=1e-6)


def test_focal_loss_is_what_its_paper_says_of_it() -> None:
    """Lin et al. 2017, section 3.2: with γ = 2, at pₜ = 0.9 a hundredth of cross-entropy, at 0.968 a thousandth."""
    for given, factor in ((0.9, 100), (0.968, 1000)):
        logit = torch.tensor([math.log(given / (1 - given))])
        wanted = torch.tensor([True])
        plain = focal_loss(logit, wanted, alpha=1, gamma=0)
        assert plain.item() == pytest.approx(-math.log(given), rel=1e-4)
        assert (plain / focal_loss(logit, wanted, alpha=1, gamma=2)).item() == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_by_its_definition_with_its_gradient(gamma: float) -> None:
    """Lin et al. 2017, equations 2 and 5, as they stand, in double precision."""
    logits = torch.linspace(-9, 9, 37, dtype=torch.float64).requires_grad_()
    wanted = torch.arange(37) % 2 == 0
    p = logits.sigmoid()
    p_t, alpha_t = torch.where(wanted, p, 1 - p), torch.where(wanted, 0.25, 0.75)
    defined = -alpha_t * (1 - p_t) ** gamma * p_t.log()
    found = focal_loss(logits, wanted, 0.25, gamma)
    torch.testing.assert_close(found, defined, check_dtype=False)
    slopes = [torch.autograd.grad(value.sum(), logits)[0] for value in (found, defined)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_the_surest_logits_is_a_number(gamma: float) -> None:
    logits = torch.tensor([200.0, 200.0, -200.0, -200.0], requires_grad=True)
    found = focal_loss(logits, torch.tensor([True, False, True, False]), 0.25, gamma)
    found.sum().backward()
    assert found.tolist() == pytest.approx([0, 0.75 * 200, 0.25 * 200, 0], abs=1e-3)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def heads(network: Network, scores: list[float], deltas: list[float]) -> nn.Module:
    """The net of regions, made to give the same for every region."""
    module = build(network)
    for name, bias in (("class_scores", scores), ("box_deltas", deltas)):
        head = module._modules[name]
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor(bias)
    return module


def test_fast_rcnn_by_hand() -> None:
    network = network_of(REGIONS)
    # IoUs of the proposals: 9/11, 30/110, and 0, which is less than 0.1. The last is padding. The object joins them.
    proposals = torch.cat((wide(10, 4), torch.tensor([[50.0, 50.0, 60.0, 60.0], [0.0, 0.0, 0.0, 0.0]])))[None]
    # The background is twice as likely as each class: two positive regions with −ln(1/4), a negative one with −ln(2/4).
    # Offsets are those of column 2: off by 1/2 and 3 in both positive regions, 2.625 each; three regions are trained.
    deltas = [7.0] * 8 + [0.5, 3.0, 0.0, 0.0]
    module = heads(network, [math.log(2), 0.0, 0.0], deltas)
    seen: list[Tensor] = []
    module._modules["hidden"].register_forward_hook(lambda layer, read, gives: seen.append(read[0]))
    found = losses(network, module, (IMAGE, proposals), [target(OBJECT, [LABEL])])
    assert found["classes"].item() == pytest.approx((2 * math.log(4) + math.log(2)) / 3, abs=1e-6)
    assert found["classes"].item() == pytest.approx(
        log_loss([2, 2, 0], [[0.5, 0.25, 0.25]] * 3, labels=[0, 1, 2]), abs=1e-6
    )
    assert found["boxes"].item() == pytest.approx(2 * 2.625 / 3, abs=1e-5)
    assert sorted(seen[0][0, :3].tolist()) == sorted([*wide(10, 4).tolist(), *OBJECT.tolist()])


def test_fast_rcnn_trains_on_sixty_four_regions_of_an_image_of_which_a_quarter_has_an_object() -> None:
    """Girshick 2015, section 2.3: "25% of the RoIs from object proposals that have IoU … of at least 0.5"."""
    network = network_of(REGIONS)
    module = build(network)
    seen: list[Tensor] = []
    module._modules["hidden"].register_forward_hook(lambda layer, read, gives: seen.append(read[0]))
    near = OBJECT + torch.rand(100, 4, generator=torch.Generator().manual_seed(0))
    far = wide(4).repeat(300, 1) + torch.rand(300, 4, generator=torch.Generator().manual_seed(1)) / 10
    losses(network, module, (IMAGE, torch.cat((near, far))[None]), [target(OBJECT, [LABEL])])
    assert seen[0].shape == (1, 64, 4)
    assert (seen[0][0, :, 2] > 9).sum() == 16


NOTHING = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
IGNORED = target(OBJECT, [LABEL], [True])
ONE = target(OBJECT, [LABEL])
TWO = target(torch.tensor([[1.0, 0, 11, 10], [40, 40, 60, 60]]), [0, 1])
FLAT = target(torch.tensor([[5.0, 5.0, 5.0, 9.0]]), [0])
BATCHES = {
    "no object": [NOTHING, NOTHING],
    "all ignored": [IGNORED, IGNORED],
    "one object": [ONE, NOTHING],
    "of all kinds": [NOTHING, TWO, IGNORED, ONE],
    "without area": [FLAT, NOTHING],
}
ANCHORS = torch.cat((wide(10, 7, 4), torch.tensor([[38.0, 40.0, 60.0, 62.0], [80.0, 80.0, 90.0, 90.0]])))


@pytest.mark.parametrize("loss", ["ssd", "retinanet", "{retinanet: , boxes: giou}", "fast_rcnn"])
@pytest.mark.parametrize("batch", BATCHES)
def test_losses_and_gradients_are_numbers_whatever_is_in_the_images(loss: str, batch: str) -> None:
    targets = BATCHES[batch]
    text = REGIONS if loss == "fast_rcnn" else LEARNED.format(boxes=len(ANCHORS), columns=3, loss=loss)
    network = network_of(text)
    module = build(network)
    boxes = ANCHORS.expand(len(targets), -1, -1)
    found = losses(network, module, (torch.randn(len(targets), 3, 100, 100), boxes), targets)
    assert list(found) == ["classes", "boxes"]
    total = sum(found.values(), torch.tensor(0.0))
    assert all(value.shape == () and value.isfinite() for value in found.values())
    total.backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    if batch in ("one object", "of all kinds"):
        assert found["boxes"] > 0


def test_regions_without_any_proposal_are_the_objects_themselves() -> None:
    network = network_of(REGIONS)
    found = losses(network, build(network), (IMAGE, torch.zeros(1, 8, 4)), [ONE])
    assert found["classes"] > 0
    empty = losses(network, build(network), (IMAGE, torch.zeros(1, 8, 4)), [NOTHING])
    assert [value.item() for value in empty.values()] == [0, 0]


@pytest.mark.parametrize("loss", ["ssd", "retinanet", "{retinanet: , boxes: giou, balance: 2}"])
def test_one_image_is_learnt_by_heart(loss: str) -> None:
    """After some steps the boxes that are found are the objects, with their classes."""
    torch.manual_seed(0)
    columns = 3 if loss == "ssd" else 2
    network = network_of(LEARNED.format(boxes=len(ANCHORS), columns=columns, loss=loss))
    choice = network.sections["train"].loss
    module = build(network)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    inputs = torch.randn(1, 3, 100, 100), ANCHORS[None]
    totals = []
    for _ in range(150):
        total = sum(losses(network, module, inputs, [TWO]).values(), torch.tensor(0.0))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] / 20
    scores, deltas, anchors = (value[0] for value in module(*inputs))
    boxes = decode(deltas, anchors, choice.offset_weights)
    likely = scores.softmax(1)[:, 1:] if loss == "ssd" else scores.sigmoid()
    assert likely.argmax(0).tolist() in ([0, 3], [1, 3])  # the first object has two anchors
    torch.testing.assert_close(boxes[likely.argmax(0)], TWO.boxes, atol=0.5, rtol=0)
    assert (likely[[2, 4]] < 0.5).all()


def test_a_head_of_regions_learns_one_image_by_heart() -> None:
    torch.manual_seed(0)
    network = network_of(REGIONS)
    choice = network.sections["train"].loss
    assert isinstance(choice, RegionLoss)
    module = build(network)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    inputs = IMAGE, ANCHORS[None]
    for _ in range(200):
        total = sum(losses(network, module, inputs, [TWO]).values(), torch.tensor(0.0))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    scores, deltas = (value[0] for value in module(*inputs))
    assert scores.argmax(1)[[0, 2, 3]].tolist() == [1, 0, 2]
    for region, label in ((0, 0), (3, 1)):
        wanted = encode(TWO.boxes[label], ANCHORS[region], choice.offset_weights)
        torch.testing.assert_close(deltas[region].view(3, 4)[label + 1], wanted, atol=0.5, rtol=0)
