"""The losses of YOLO and of detectors without anchors, against numbers worked by hand and what their papers say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compiler.detection.anchor_free import quality_focal_loss, side_errors
from compiler.detection.criteria import make_criterion
from compiler.detection.criterion import Target
from compiler.detection.losses import focal_loss
from compiler.module import build
from netspec.loading import check_source
from netspec.network import Network
from netspec.source import Source

# What the heads read is fed, so that a test says what a network would give.
V1 = """
netspec: 1
inputs: {{image: {{shape: [N, 3, 100, 100]}}, numbers: {{shape: [N, 48]}}}}
net: {{found: {{yolo_grid: 2, grid: 2, boxes: 2, from: [numbers, image]}}}}
train: {{data: scenes, loss: {loss}}}
"""
V2 = """
netspec: 1
inputs: {{image: {{shape: [N, 3, 64, 64]}}, map: {{shape: [N, 14, 2, 2]}}}}
net: {{found: {{yolo: 2, anchors: [[10, 20], [40, 20]], stride: 32, scores: softmax, from: map}}}}
train: {{data: scenes, loss: {loss}}}
"""
V3 = """
netspec: 1
inputs: {{image: {{shape: [N, 3, 64, 64]}}, a: {{shape: [N, 7, 4, 4]}}, b: {{shape: [N, 14, 2, 2]}}}}
net:
  fine: {{yolo: 2, anchors: [[10, 10]], stride: 16, from: a}}
  coarse: {{yolo: 2, anchors: [[30, 30], [60, 60]], stride: 32, from: b}}
outputs: [fine, coarse]
train: {{data: scenes, loss: {loss}}}
"""
FREE = """
netspec: 1
inputs: {{image: {{shape: [N, 3, 64, 64]}}, s: {{shape: [N, 16, 2]}}, map: {{shape: [N, {sides}, 4, 4]}}}}
net:
  scores: {{identity: , from: s}}
  found: {{distances: {bins}, stride: 16, from: map}}
outputs: [scores, found]
train: {{data: scenes, loss: {loss}}}
"""
IMAGE = torch.zeros(1, 3, 64, 64)
NOTHING = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def network_of(text: str) -> Network:
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def losses(text: str, inputs: tuple[Tensor, ...], *targets: Target) -> dict[str, float]:
    network = network_of(text)
    parts = make_criterion(network, network.sections["train"].loss).run(build(network), inputs, list(targets))
    return {name: float(part) for name, part in parts.items()}


def target(*boxes: list[float], labels: list[int], ignore: list[bool] | None = None) -> Target:
    return Target.of(torch.tensor(boxes), torch.tensor(labels), None if ignore is None else torch.tensor(ignore))


def as_map(raw: Tensor, size: int) -> Tensor:
    """The map 1 × A·k × h × w that a head of A boxes with k numbers reads, of its raw numbers h·w·A × k."""
    return raw.reshape(1, size, size, -1, raw.shape[1]).permute(0, 3, 4, 1, 2).flatten(1, 2)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_yolov1_is_the_five_sums_of_equation_3() -> None:
    """The object is centred on (30, 40) of 100 × 100, in the first of 2 × 2 cells: x 0.6, y 0.8, w and h 0.4."""
    cells = torch.zeros(4, 12)
    root = math.sqrt(0.4)
    # The first box lies 5 pixels to the right, so they share 35 × 40: IoU 1400 / (1600 + 1600 − 1400) = 7/9.
    cells[0] = torch.tensor([0.7, 0.8, root, root, 0.5, 0, 0, 0, 0, 0.2, 0.1, 0.7])
    cells[3, 4] = 0.4
    found = losses(
        V1.format(loss="yolov1"),
        (torch.zeros(1, 3, 100, 100), cells.reshape(1, 48)),
        target([10.0, 20, 50, 60], labels=[1]),
    )
    assert found == pytest.approx(
        {
            "boxes": 5 * (0.7 - 0.6) ** 2,
            "objects": (0.5 - 7 / 9) ** 2,
            "background": 0.5 * (0.2**2 + 0.4**2),
            "classes": 0.1**2 + (0.7 - 1) ** 2,
        },
        abs=1e-6,
    )


def test_in_yolov1_the_box_that_overlaps_more_is_responsible() -> None:
    cells = torch.zeros(4, 12)
    # Both are centred right. Sides of 0.2 give IoU 400/1600, sides of 0.3 give 900/1600, and √0.3 to learn √0.4 from.
    cells[0] = torch.tensor(
        [0.6, 0.8, math.sqrt(0.2), math.sqrt(0.2), 1, 0.6, 0.8, math.sqrt(0.3), math.sqrt(0.3), 1, 0, 1]
    )
    found = losses(
        V1.format(loss="yolov1"),
        (torch.zeros(1, 3, 100, 100), cells.reshape(1, 48)),
        target([10.0, 20, 50, 60], labels=[1]),
    )
    assert found["boxes"] == pytest.approx(5 * 2 * (math.sqrt(0.4) - math.sqrt(0.3)) ** 2, abs=1e-6)
    assert found["objects"] == pytest.approx((1 - 9 / 16) ** 2, abs=1e-6)
    assert found["background"] == pytest.approx(0.5)  # the other box of the cell


def test_yolov2_trains_the_prior_of_the_best_shape_in_the_cell_of_the_centre() -> None:
    """The object is 24 × 16 around (48, 12): 160/424 of the first prior's shape, 384/800 of the second's.

    So it is the second prior's, in the second cell, at x 48/32 − 1 = 0.5 and y 12/32 = 0.375. With numbers of 0 its box
    is 40 × 20 around (48, 16), which shares 24 × 14 with the object: IoU 336 / (800 + 384 − 336).
    """
    thing = target([36.0, 4, 60, 20], labels=[1])
    raw = torch.zeros(8, 7)
    found = losses(V2.format(loss="yolov2"), (IMAGE, as_map(raw, 2)), thing)
    assert found == pytest.approx(
        {
            "boxes": (0.125**2 + math.log(24 / 40) ** 2 + math.log(16 / 20) ** 2) / 2,
            "objects": 5 * (0.5 - 336 / 848) ** 2 / 2,
            "background": 7 * 0.5**2 / 2,  # the others, none of which overlaps it by more than 0.6
            "classes": math.log(2),
        },
        abs=1e-6,
    )
    # The other box of that cell becomes the object itself, so it is neither an object nor background.
    raw[2, :4] = torch.tensor([0, logit(0.375), math.log(24 / 10), math.log(16 / 20)])
    assert losses(V2.format(loss="yolov2"), (IMAGE, as_map(raw, 2)), thing)["background"] == pytest.approx(6 / 8)
    kept = losses(V2.format(loss="{yolov2: , ignore: 1.0, no_object: 2}"), (IMAGE, as_map(raw, 2)), thing)
    assert kept["background"] == pytest.approx(2 * 7 / 8)
    logistic = losses(V2.format(loss="{yolov2: , objectness: logistic}"), (IMAGE, as_map(raw, 2)), thing)
    assert logistic["objects"] == pytest.approx(5 * math.log(2))  # of σ(0) = ½, whatever is wanted
    assert logistic["background"] == pytest.approx(6 * math.log(2))


def test_yolov3_trains_one_prior_of_all_levels() -> None:
    """A square of 28 around (40, 24) fits the prior of 30 best: 784/900, in the second column and first row.

    There x is 40/32 − 1 = 0.25 and y 24/32 = 0.75. The prior itself is centred on (48, 16) and shares
    (54 − 33) × (31 − 10) with the object: IoU 441 / (784 + 900 − 441) = 0.35, so it would not be left out either.
    """
    thing = target([26.0, 10, 54, 38], labels=[0])
    a, b = torch.zeros(16, 7), torch.zeros(8, 7)
    found = losses(V3.format(loss="yolov3"), (IMAGE, as_map(a, 4), as_map(b, 2)), thing)
    assert found == pytest.approx(
        {
            "boxes": 2 * math.log(2) + 2 * math.log(28 / 30) ** 2 / 2,  # of σ(0) = ½, ln 2 whatever is wanted
            "objects": math.log(2),
            "background": 23 * math.log(2),
            "classes": 2 * math.log(2),
        },
        abs=1e-5,
    )
    # The numbers that make the object's box leave the least of the boxes' loss: the entropies of ¼ and ¾.
    b[2] = torch.tensor([logit(0.25), logit(0.75), math.log(28 / 30), math.log(28 / 30), 9, 9, -9])
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    found = losses(V3.format(loss="yolov3"), (IMAGE, as_map(a, 4), as_map(b, 2)), thing)
    assert found["boxes"] == pytest.approx(2 * entropy, abs=1e-5)
    assert found["objects"] == pytest.approx(math.log1p(math.exp(-9)), rel=1e-2)
    for overlap in ("giou", "ciou"):
        exact = losses(V3.format(loss=f"{{yolov3: {overlap}}}"), (IMAGE, as_map(a, 4), as_map(b, 2)), thing)
        assert exact["boxes"] == pytest.approx(0, abs=1e-5)


def test_yolov3_leaves_out_what_overlaps_an_object_and_is_not_its_best() -> None:
    """The object is the prior of 30 in the first cell but a little; the prior of 60 there shares 900 of 3,600."""
    thing = target([1.0, 1, 31, 31], labels=[0])
    a, b = torch.zeros(16, 7), torch.zeros(8, 7)
    b[4, 2:4] = math.log(60 / 30)  # the box of a prior in another cell: 60 × 60 around (16, 48)
    b[1, 2:4] = math.log(30 / 60)  # the box, not the prior, in the object's cell: the object itself

    def background(loss: str) -> float:
        return losses(V3.format(loss=loss), (IMAGE, as_map(a, 4), as_map(b, 2)), thing)["background"] / math.log(2)

    assert background("yolov3") == pytest.approx(23)
    assert background("{yolov3: , ignore: 0.2}") == pytest.approx(22)  # 900/3,600 is more than 0.2
    assert background("{yolov3: , ignore_by: box}") == pytest.approx(22)


def test_further_priors_find_an_object_too() -> None:
    """The shape's IoU with 30 × 30 is 784/900, with 60 × 60 it is 784/3,600, with 10 × 10 it is 100/784."""
    thing = target([26.0, 10, 54, 38], labels=[0])
    inputs = IMAGE, torch.zeros(1, 7, 4, 4), torch.zeros(1, 14, 2, 2)
    for also, count in ((0.5, 1), (0.2, 2), (0.1, 3)):
        found = losses(V3.format(loss=f"{{yolov3: , also: {also}}}"), inputs, thing)
        assert found["objects"] == pytest.approx(count * math.log(2), abs=1e-5)
        assert found["background"] == pytest.approx((24 - count) * math.log(2), abs=1e-4)


@pytest.mark.parametrize("text", [V1.format(loss="yolov1"), V2.format(loss="yolov2"), V3.format(loss="yolov3")])
def test_of_two_objects_in_one_place_the_first_is_found(text: str) -> None:
    network = network_of(text)
    inputs = inputs_of(network, 1)
    side = float(inputs[0].shape[2])
    first, second = [4.0, 4, 28, 24], [5.0, 5, 29, 25]
    both = losses(text, inputs, target(first, second, labels=[0, 1]))
    alone = losses(text, inputs, target(first, labels=[0]))
    assert both == pytest.approx(alone)
    assert losses(text, inputs, target(second, first, labels=[1, 0])) != pytest.approx(alone)
    # The first of these is not to be found, so it takes nothing from the second.
    ignored = target(second, first, labels=[1, 0], ignore=[True, False])
    assert losses(text, inputs, ignored)["classes"] == pytest.approx(alone["classes"])
    elsewhere = losses(text, inputs, target(first, [side - 28, side - 24, side - 4, side - 4], labels=[0, 0]))
    assert elsewhere["classes"] != pytest.approx(alone["classes"])


def test_objects_on_borders_belong_to_the_cell_that_begins_there() -> None:
    """Centres on (32, 32) and on the image's corner (64, 64), and one beyond it: all of the last of 2 × 2 cells."""
    for centre, wanted in ((32.0, 0.0), (64.0, 1.0), (70.0, 1.0)):
        thing = target([centre - 20, centre - 10, centre + 20, centre + 10], labels=[0])
        raw = torch.zeros(8, 7)
        raw[7, :2] = 40 * wanted - 20  # σ is 0 or 1
        found = losses(V2.format(loss="yolov2"), (IMAGE, as_map(raw, 2)), thing)
        assert found["boxes"] == pytest.approx(0, abs=1e-6)
        assert found["objects"] > 0


def sides(values: dict[int, list[float]], bins: int = 1) -> Tensor:
    raw = torch.zeros(16, 4 * bins)
    for place, distances in values.items():
        raw[place] = torch.tensor(distances)
    return as_map(raw, 4)


def test_places_that_find_an_object_best_are_trained_with_their_alignment() -> None:
    """The object covers the first 2 × 2 of 4 × 4 places, whose centres are 8 and 24: places 0, 1, 4 and 5.

    Place 0 has its box: s = ½ and u = 1, so t = ½. Place 1 has the object's right half: s = ½ and u = ½, so t = ½·½⁶ =
    1/128. Place 4 has a quarter of it: s = 0.8 and u = ¼, so t = 0.8/4⁶. With two candidates these are places 0 and 1,
    and their scores are to be 1 and (1/128)/(1/2)·1 = 1/64.
    """
    thing = target([0.0, 0, 32, 32], labels=[1])
    given = sides({0: [0.5, 0.5, 1.5, 1.5], 1: [0.5, 0.5, 0.5, 1.5], 4: [0.5, 0.5, 0.5, 0.5]})
    scores = torch.full((1, 16, 2), -30.0)
    scores[0, [0, 1], 1], scores[0, 4, 1] = 0.0, logit(0.8)
    text = FREE.format(loss="{anchor_free: 2}", sides=4, bins=1)
    found = losses(text, (IMAGE, scores, given), thing)
    total = 1 + 1 / 64
    # Quality focal loss: |y − σ|²·BCE, and BCE at σ = ½ is ln 2 for every y. Place 4 is background: σ²·(−ln(1 − σ)).
    classes = (0.5**2 + (0.5 - 1 / 64) ** 2) * math.log(2) + 0.8**2 * -math.log(0.2)
    assert found["classes"] == pytest.approx(classes / total, abs=1e-5)
    assert found["boxes"] == pytest.approx(2 * (1 / 64) * 0.5 / total, abs=1e-5)  # GIoU of a half is ½
    # Only place 1's left side is wrong: 0.5 where it is to be 1.5. Smooth L1 of 1 is ½, a quarter of it the mean.
    assert found["sides"] == pytest.approx(0.25 * (1 / 64) * 0.5 / 4 / total, abs=1e-6)
    plain = losses(FREE.format(loss="{anchor_free: 2, gamma: 0}", sides=4, bins=1), (IMAGE, scores, given), thing)
    assert plain["classes"] == pytest.approx((2 * math.log(2) - math.log(0.2)) / total, abs=1e-5)


def test_a_place_of_two_objects_finds_the_one_that_its_box_overlaps_more() -> None:
    """Both objects cover place 0; its box is the first, which is half of the second. Place 1 is the second's alone."""
    things = target([0.0, 0, 16, 32], [0.0, 0, 32, 32], labels=[0, 1])
    given = sides({0: [0.5, 0.5, 0.5, 1.5], 1: [1.5, 0.5, 0.5, 1.5]})
    scores = torch.zeros(1, 16, 2)
    network = network_of(FREE.format(loss="{anchor_free: 1}", sides=4, bins=1))
    criterion = make_criterion(network, network.sections["train"].loss)
    scores.requires_grad_()
    loss = criterion.run(build(network), (IMAGE, scores, given), [things])["classes"]
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (gradient[0, [0, 1], [0, 1]] < 0).all()  # these are to grow, and nothing else is
    assert (gradient < 0).sum() == 2


def test_an_object_between_all_centres_is_found_by_the_nearest_place() -> None:
    thing = target([17.0, 1, 22, 6], labels=[0])  # around (19.5, 3.5); the centres are 8, 24, …
    scores = torch.zeros(1, 16, 2, requires_grad=True)
    network = network_of(FREE.format(loss="anchor_free", sides=4, bins=1))
    criterion = make_criterion(network, network.sections["train"].loss)
    parts = criterion.run(build(network), (IMAGE, scores, sides({1: [0.5, 0.5, 0.5, 0.5]})), [thing])
    (gradient,) = torch.autograd.grad(sum(parts.values(), torch.zeros(())), scores)
    assert gradient[0, 1, 0] != gradient[0, 1, 1]
    assert len({round(float(value), 6) for place in (0, 2, 3, 4, 5) for value in gradient[0, place]}) == 1


def test_distribution_focal_loss_is_cross_entropy_with_two_neighbouring_bins() -> None:
    numbers = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([0.0, 1.25, 2.0, 3.0]).repeat(5, 1)
    shares = torch.tensor([[1, 0, 0, 0], [0, 0.75, 0.25, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    expected = functional.cross_entropy(numbers.flatten(0, 1), shares.repeat(5, 1), reduction="none")
    torch.testing.assert_close(side_errors(numbers, wanted).flatten(), expected)
    beyond = side_errors(numbers, torch.full((5, 4), 9.0))
    torch.testing.assert_close(beyond, side_errors(numbers, torch.full((5, 4), 3.0)))


def test_quality_focal_loss_of_whole_objects_is_the_focal_loss() -> None:
    logits = torch.linspace(-6, 6, 24)
    wanted = torch.arange(24) % 2 == 0
    expected = 2 * focal_loss(logits, wanted, alpha=0.5, gamma=2.0)
    torch.testing.assert_close(quality_focal_loss(logits, wanted.float(), 2.0), expected)
    right = torch.zeros(1, requires_grad=True)
    loss = quality_focal_loss(right, torch.tensor([0.5]), 0.5).sum()  # a score that is what it is to be
    assert float(loss.detach()) < 1e-3
    assert torch.isfinite(torch.autograd.grad(loss, right)[0])


CASES = {
    "yolov1": V1.format(loss="yolov1"),
    "yolov2": V2.format(loss="yolov2"),
    "yolov2 giou": V2.format(loss="{yolov2: giou}"),
    "yolov3": V3.format(loss="yolov3"),
    "yolov3 ciou": V3.format(loss="{yolov3: ciou, also: 0.3, ignore_by: box}"),
    "anchor_free": FREE.format(loss="anchor_free", sides=32, bins=8),
    "anchor_free ciou": FREE.format(loss="{anchor_free: , boxes: ciou}", sides=4, bins=1),
}
ODD = [
    NOTHING,
    target([5.0, 5, 30, 30], [0.0, 0, 64, 64], labels=[0, 1], ignore=[True, True]),
    target([10.0, 10, 10.001, 10.001], [20.0, 20, 20, 30], labels=[0, 1]),  # tiny, and without area
    target([-4000.0, -4000, 6000, 6000], labels=[1]),
    target([60.0, 60, 64, 64], [0.0, 0, 4, 4], [32.0, 0, 64, 32], labels=[0, 1, 0]),
    target([16.0, 16, 48, 48], [16.0, 16, 48, 48], labels=[0, 0]),
]


def inputs_of(network: Network, count: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    types = [network.layer(name)["output"].shape[1:] for name in network.inputs]
    return tuple(torch.randn(count, *(int(str(size)) for size in shape), generator=generator) for shape in types)


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_odd_images_have_finite_losses_and_gradients(text: str) -> None:
    network = network_of(text)
    criterion = make_criterion(network, network.sections["train"].loss)
    module = build(network)
    inputs = inputs_of(network, len(ODD))
    for tensor in inputs[1:]:
        tensor.requires_grad_()
    parts = criterion.run(module, inputs, ODD)
    total = sum(parts.values(), torch.zeros(()))
    assert torch.isfinite(total) and all(float(part.detach()) >= 0 for part in parts.values())
    for gradient in torch.autograd.grad(total, inputs[1:]):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_an_image_without_objects_trains_the_background_alone(text: str) -> None:
    network = network_of(text)
    found = losses(text, inputs_of(network, 1), NOTHING)
    apart = "classes" if "anchor_free" in text else "background"
    assert found[apart] > 0
    assert [value for name, value in found.items() if name != apart] == [0] * (len(found) - 1)


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_an_ignored_object_over_the_whole_image_leaves_nothing_to_train(text: str) -> None:
    network = network_of(text)
    crowd = target([-1e4, -1e4, 1e4, 1e4], labels=[0], ignore=[True])
    found = losses(text, inputs_of(network, 1), crowd)
    assert sum(found.values()) == 0


@pytest.mark.parametrize("name", ["yolov1", "yolov2", "yolov3"])
def test_the_loss_of_a_batch_is_the_mean_of_its_images(name: str) -> None:
    network = network_of(CASES[name])
    inputs = inputs_of(network, len(ODD))
    together = losses(CASES[name], inputs, *ODD)
    each = [losses(CASES[name], tuple(tensor[i : i + 1] for tensor in inputs), thing) for i, thing in enumerate(ODD)]
    for part, value in together.items():
        assert value == pytest.approx(sum(found[part] for found in each) / len(ODD), rel=1e-4)


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_large_batches_are_matched_in_portions(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(network_of(text), len(ODD))
    together = losses(text, inputs, *ODD)
    monkeypatch.setattr("compiler.detection.matching.MOST_PAIRS", 1)
    assert losses(text, inputs, *ODD) == together


# A small net that learns three images by heart.
LEARNED = """
netspec: 1
inputs: {{image: {{shape: [N, 3, 64, 64]}}}}
net:
  conv1: {{conv: 16, kernel: 3, stride: 2, padding: 1}}
  act1: silu
  conv2: {{conv: 32, kernel: 3, stride: 2, padding: 1}}
  act2: silu
  conv3: {{conv: 48, kernel: 3, stride: 2, padding: 1}}
  act3: silu
  conv4: {{conv: 48, kernel: 3, stride: 2, padding: 1}}
  act4: silu
{heads}
outputs: {outputs}
train: {{data: scenes, loss: {loss}}}
"""
HEADS = {
    "yolov1": "  flatten: flatten\n  fc: {linear: 4 * 4 * 12}\n  found: {yolo_grid: 2, grid: 4, from: [fc, image]}",
    "yolov2": "  map: {conv: 14, kernel: 1}\n"
    "  found: {yolo: 2, anchors: [[16, 16], [32, 32]], stride: 16, scores: softmax}",
    "yolov3": "  map: {conv: 14, kernel: 1}\n  found: {yolo: 2, anchors: [[16, 16], [32, 32]], stride: 16}",
    "anchor_free": "  map: {conv: 16, kernel: 1}\n  found: {distances: 4, stride: 16}\n"
    "  classes: {conv: 2, kernel: 1, from: act4}\n  rows: {reshape: [2, -1]}\n  scores: {permute: [2, 1]}",
}

TAUGHT = {"yolov2": "{yolov2: , objectness: logistic}"}  # a few steps of much background leave the squared error flat


@pytest.mark.parametrize("name", HEADS)
def test_a_small_net_learns_images_by_heart(name: str) -> None:
    """What it finds afterwards, by the op's own boxes and scores, is what it was taught: losses and ops agree."""
    boxes = torch.tensor([[4.0, 8, 24, 30], [30.0, 28, 62, 58], [20.0, 2, 40, 20]])
    labels = torch.tensor([0, 1, 0])
    images = torch.zeros(3, 3, 64, 64)
    for image, (left, top, right, bottom), label in zip(images, boxes.int().tolist(), labels.tolist(), strict=True):
        image[label, top:bottom, left:right] = 1
    targets = [Target.of(boxes[i : i + 1], labels[i : i + 1]) for i in range(3)]
    taught = "{scores: scores, found: found}" if name == "anchor_free" else "found"
    network = network_of(LEARNED.format(heads=HEADS[name], outputs=taught, loss=TAUGHT.get(name, name)))
    criterion = make_criterion(network, network.sections["train"].loss)
    module = build(network).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        sum(criterion.run(module, (images,), targets).values(), torch.zeros(())).backward()
        optimizer.step()
    scores = "scores" if name == "anchor_free" else "found.scores"
    text = LEARNED.format(heads=HEADS[name], outputs=f"{{boxes: found.boxes, chances: {scores}}}", loss="mse")
    used = build(network_of(text.partition("train:")[0]), weights=module.state_dict()).eval()
    found, chances = used(images)
    best = chances.flatten(1).argmax(1)
    assert (best % 2).tolist() == labels.tolist()
    assert (found[range(3), best // 2] - boxes).abs().max() < 2.5
