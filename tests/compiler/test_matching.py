"""Which boxes are to find which objects, and which of them are trained, against cases worked by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from compiler.detection.criterion import Target
from compiler.detection.matching import Matches, Truth, match, match_each
from compiler.detection.sampling import balanced, hardest

NOTHING = Target.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def wide(*widths: float) -> Tensor:
    """Boxes of height 10 from the left edge: the IoU of two is the smaller width over the larger one."""
    return torch.tensor([[0.0, 0.0, width, 10.0] for width in widths])


def target(boxes: Tensor, labels: list[int], ignore: list[bool] | None = None) -> Target:
    return Target.of(boxes, torch.tensor(labels), None if ignore is None else torch.tensor(ignore))


def random_boxes(count: int, seed: int) -> Tensor:
    corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:] / 2 + 1), 1)


def test_boxes_are_positive_negative_or_left_out_by_two_thresholds() -> None:
    # The object is 10 wide, so the IoUs are 10/10, 7/10, 5/10, 3/10 and 2/10.
    truth = Truth.of([target(wide(10), [4])])
    matches = match(wide(10, 7, 5, 3, 2)[None], truth, positive=0.7, negative=0.3)
    assert matches.positive.tolist() == [[True, True, False, False, False]]
    assert matches.negative.tolist() == [[False, False, False, False, True]]  # 3/10 is no longer below 0.3
    assert matches.labels.tolist() == [[4] * 5]
    assert torch.equal(matches.boxes[0, 0], wide(10)[0])
    from_a_tenth = match(wide(10, 5, 4, 1, 0.9)[None], truth, positive=0.5, negative=0.5, least=0.1)
    assert from_a_tenth.positive.tolist() == [[True, True, False, False, False]]
    assert from_a_tenth.negative.tolist() == [[False, False, True, True, False]]


def test_the_boxes_that_overlap_an_object_most_find_it_however_little_that_is() -> None:
    """Ren et al. 2015, section 3.1.2, condition (i): two boxes overlap the second object equally, and most."""
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0], [200.0, 0.0, 210.0, 10.0]])
    # The first box is the first object. The next two share 5 × 10 with the second: 50 / (100 + 100 − 50) = 1/3.
    # The fourth shares 2 × 10: 20 / 180 = 1/9. No box overlaps the third object at all.
    boxes = torch.tensor([[0.0, 0.0, 10, 10], [45, 0, 55, 10], [55, 0, 65, 10], [58, 0, 68, 10], [90, 0, 99, 10]])
    truth = Truth.of([target(objects, [0, 1, 2])])
    matches = match(boxes[None], truth, 0.7, 0.4, low_quality=True)
    assert matches.positive.tolist() == [[True, True, True, False, False]]
    assert matches.objects[0, :3].tolist() == [0, 1, 1]
    assert matches.negative.tolist() == [[False, False, False, True, True]]
    assert match(boxes[None], truth, 0.7, 0.4).positive.tolist() == [[True, False, False, False, False]]


def test_ignored_objects_make_boxes_neither() -> None:
    crowd = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    # Half of the second box's area lies in the crowd, a fifth of the third's; the IoUs are far below that.
    boxes = torch.tensor([[10.0, 10, 20, 20], [95, 0, 105, 10], [98, 0, 108, 10], [0, 0, 100, 100]])
    matches = match(boxes[None], Truth.of([target(crowd, [0], [True])]), 0.7, 0.3, low_quality=True)
    assert not matches.positive.any()
    assert matches.negative.tolist() == [[False, False, True, False]]
    each = match_each(boxes[None], Truth.of([target(crowd, [0], [True])]), 0.5)
    assert not each.positive.any()
    assert each.negative.tolist() == [[False, False, True, False]]
    # An object in the crowd is still to be found.
    both = Truth.of([target(torch.cat((crowd, boxes[:1])), [0, 3], [True, False])])
    found = match(boxes[None], both, 0.7, 0.3)
    assert found.positive.tolist() == [[True, False, False, False]]
    assert found.labels[0, 0] == 3


@pytest.mark.parametrize("room", [1, 200 * 7 * 2, 2**24], ids=["one by one", "two by two", "all at once"])
def test_a_batch_is_matched_as_its_images_are_one_by_one(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.detection.matching.MOST_PAIRS", room)
    targets = [
        target(random_boxes(3, 0), [0, 1, 2]),
        NOTHING,
        target(random_boxes(7, 1), list(range(7)), [False, True] * 3 + [False]),
        target(random_boxes(2, 2), [5, 6], [True, True]),
    ]
    boxes = torch.stack([random_boxes(200, 3 + image) for image in range(4)])
    together = (
        match(boxes, Truth.of(targets), 0.5, 0.4, low_quality=True),
        match_each(boxes, Truth.of(targets), 0.5),
    )
    for image, one in enumerate(targets):
        alone = (
            match(boxes[image : image + 1], Truth.of([one]), 0.5, 0.4, low_quality=True),
            match_each(boxes[image : image + 1], Truth.of([one]), 0.5),
        )
        for batch, single in zip(together, alone, strict=True):
            assert torch.equal(batch.positive[image], single.positive[0])
            assert torch.equal(batch.negative[image], single.negative[0])
            assert torch.equal(batch.labels[image][batch.positive[image]], single.labels[single.positive])
    for matches in together:
        assert not matches.positive[[1, 3]].any()
        assert matches.negative[1].all()
        assert matches.positive[0].any()


def test_boxes_without_area_are_not_trained_and_objects_without_area_not_sought() -> None:
    padded = torch.cat((wide(10), torch.zeros(2, 4)))[None]
    matches = match(padded, Truth.of([NOTHING]), 0.5, 0.5)
    assert matches.negative.tolist() == [[True, False, False]]
    flat = Truth.of([target(torch.tensor([[0.0, 5, 10, 5]]), [0])])
    assert not match(padded, flat, 0.5, 0.5, low_quality=True).positive.any()
    assert not match_each(padded, flat, 0.5).positive.any()


def test_every_object_gets_a_box_of_its_own() -> None:
    """Two objects want the same box: the one that overlaps it more gets it, the other one its next best.

    The objects are 10 and 8 wide. The boxes are 9, 5 and 1 wide: IoUs 9/10, 5/10, 1/10 and 8/9, 5/8, 1/8.
    The best pair is the first object with the first box; then the second object with the second box, 5/8.
    """
    matches = match_each(wide(9, 5, 1)[None], Truth.of([target(wide(10, 8), [0, 1])]), positive=0.7)
    assert matches.positive.tolist() == [[True, True, False]]
    assert matches.labels[0, :2].tolist() == [0, 1]
    assert matches.negative.tolist() == [[False, False, True]]


@pytest.mark.parametrize("seed", range(10))
def test_pairs_are_the_greedy_ones(seed: int) -> None:
    """Against a plain search for the best pair that is left, over all pairs."""
    objects, boxes = random_boxes(8, seed), random_boxes(30, seed + 100)
    matches = match_each(boxes[None], Truth.of([target(objects, list(range(8)))]), positive=2.0)

    def overlap(i: int, j: int) -> float:
        a, b = objects[i].double(), boxes[j].double()
        sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
        shared = sides.prod()
        return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))

    pairs = sorted(((overlap(i, j), i, j) for i, j in itertools.product(range(8), range(30))), reverse=True)
    expected: dict[int, int] = {}
    for value, i, j in pairs:
        if value > 0 and i not in expected.values() and j not in expected:
            expected[j] = i
    found = {int(j): int(matches.objects[0, j]) for j in matches.positive[0].nonzero()[:, 0]}
    assert found == expected


def test_more_objects_than_boxes() -> None:
    matches = match_each(wide(9, 5)[None], Truth.of([target(wide(10, 8, 5), [0, 1, 2])]), positive=0.9)
    # 5 of 5 is the best pair, then 9 of 10; nothing is left for the object that is 8 wide.
    assert matches.labels.tolist() == [[0, 2]]
    assert matches.positive.all()


def marks(positive: int, negative: int, neither: int) -> Matches:
    """One image whose first boxes are positive, the next negative."""
    count = positive + negative + neither
    numbers = torch.arange(count)[None]
    truth = Truth.of([target(wide(*range(1, count + 1)), list(range(count)))])
    return Matches(truth, numbers, numbers < positive, (numbers >= positive) & (numbers < positive + negative))


@pytest.mark.parametrize(
    "positive, negative, expected",
    [
        (300, 5000, (128, 128)),  # at most half are positive: Ren et al. 2015, section 3.1.3
        (
            20,
            5000,
            (20, 236),
        ),  # "if there are fewer than 128 positive samples in an image, we pad … with negative ones"
        (300, 100, (128, 100)),
        (0, 5000, (0, 256)),
        (3, 0, (3, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_a_balanced_sample(positive: int, negative: int, expected: tuple[int, int]) -> None:
    torch.manual_seed(0)
    indices, chosen = balanced(marks(positive, negative, 10), 256, 0.5)
    assert indices.shape == (1, min(256, positive + negative + 10))
    assert (int(chosen.positive.sum()), int(chosen.negative.sum())) == expected
    assert (indices[chosen.positive] < positive).all()
    assert ((indices[chosen.negative] >= positive) & (indices[chosen.negative] < positive + negative)).all()
    trained = indices[chosen.positive | chosen.negative]
    assert len(trained.unique()) == len(trained)
    assert torch.equal(chosen.labels, indices)  # every box is matched with the object of its own number


def test_a_quarter_of_the_regions_is_positive() -> None:
    """Ren et al. 2015, and Girshick 2015, section 2.3: 25% of the regions have an object."""
    _, chosen = balanced(marks(400, 1600, 0), 512, 0.25)
    assert (int(chosen.positive.sum()), int(chosen.negative.sum())) == (128, 384)


def test_samples_are_drawn_evenly_and_by_torchs_generator() -> None:
    torch.manual_seed(1)
    matches = marks(20, 80, 0)
    times = torch.zeros(100)
    for _ in range(400):
        indices, _ = balanced(matches, 20, 0.5)
        times[indices[0]] += 1
    # 10 of 20 positive ones: 400/2 = 200 each, deviation √(400·½·½) = 10; 10 of 80 negative ones: 50 each, 6.6.
    assert (times[:20] - 200).abs().max() < 50
    assert (times[20:] - 50).abs().max() < 33
    torch.manual_seed(2)
    first, _ = balanced(matches, 20, 0.5)
    torch.manual_seed(2)
    again, _ = balanced(matches, 20, 0.5)
    assert torch.equal(first, again)


def test_the_hardest_negatives_are_three_for_each_positive() -> None:
    # Boxes 0 and 1 are positive, so 6 of the negatives 2 … 9 are kept: all but the two easiest. 10 and 11 are neither.
    losses = torch.tensor([[9.0, 9, 0.8, 0.1, 0.7, 0.3, 0.2, 0.9, 0.5, 0.4, 99, 99]])
    kept = hardest(losses, marks(2, 8, 2), 3)
    assert kept[0].nonzero()[:, 0].tolist() == [2, 4, 5, 7, 8, 9]
    assert hardest(losses, marks(1, 9, 2), 3)[0].nonzero()[:, 0].tolist() == [1, 2, 7]
    assert not hardest(losses, marks(0, 10, 2), 3).any()
    assert hardest(losses, marks(6, 4, 2), 3).sum() == 4
