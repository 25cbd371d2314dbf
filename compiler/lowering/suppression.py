"""Non-maximum suppression: of boxes that overlap, the best one.

Both lowerings take the first of equal scores, and reckon the overlaps with the same operations in float32, so that they
keep the same boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from compiler.detection.boxes import iou, pairwise
from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.boxes import box_sides
from netspec.dims import Dim, symbol
from netspec.ops.suppression import Nms, Proposals
from netspec.tensor import TensorType

LEAST = float(np.finfo(np.float32).min)
BLOCK = 128  # boxes that are held against one another at a time


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest of the last axis, falling, and their places; of equal ones the first is the greater.

    `topk` leaves open which of equal ones it gives. So each is made different: above, the bits of the number, turned
    into a whole number of the same order; below, how many stand behind it.
    """
    bits = (scores.float() + 0.0).view(torch.int32).long()  # + 0.0 makes one of both zeros
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    behind = torch.arange(scores.shape[-1] - 1, -1, -1, device=scores.device)
    places = scores.shape[-1] - 1 - ((ordered << 32 | behind).topk(count).values & 0xFFFFFFFF)
    return scores.gather(-1, places), places


def suppressed(boxes: Tensor, overlap: float, most: int) -> Tensor:
    """The places of the boxes that are kept of K × 4, best first, at most so many.

    Block by block, boxes that are still there are held against one another, and all that follow against those kept.
    """
    boxes = _upright(boxes)
    left = torch.arange(len(boxes), device=boxes.device)
    kept = [left[:0]]
    while len(left) and sum(map(len, kept)) < most:
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[_greedy(pairwise(iou, boxes[block], boxes[block]) > overlap)]
        kept.append(block)
        if len(left):
            left = left[~(pairwise(iou, boxes[block], boxes[left]) > overlap).any(0)]
    return torch.cat(kept)[:most]


def _greedy(overlapping: Tensor) -> Tensor:
    """Which of K boxes, best first, are kept: those that no kept one before overlaps, of K × K pairs that do.

    Starting from all, each round lets those kept suppress. After round i the first i are final, so the greedy choice is
    the only one that a round leaves as it is; it is reached after as many rounds as the longest chain of suppressions.
    """
    before = overlapping.triu(1)
    kept = torch.ones(len(before), dtype=torch.bool, device=before.device)
    while True:
        now = ~(before & kept[:, None]).any(0)
        if torch.equal(now, kept):
            return kept
        kept = now


def _upright(boxes: Tensor) -> Tensor:
    """Boxes of any two opposite corners as left, top, right, bottom."""
    first, second = boxes[..., :2].float(), boxes[..., 2:].float()
    return torch.cat((torch.minimum(first, second), torch.maximum(first, second)), -1)


def _large_enough(boxes: Tensor, least: float) -> Tensor:
    """Which boxes … × 4 have no side below `least`."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= least).all(-1)


def padded(scores: Tensor, count: int) -> Tensor:
    """N × K scores with as many behind them that don't count as make it `count`."""
    return nn.functional.pad(scores, (0, max(0, count - scores.shape[1])), value=-inf)


class BestBoxes(nn.Module):
    """The detections of each image: boxes N × K × 4, scores N × K, labels N × K, counts N."""

    def __init__(
        self,
        overlap: float,
        least: float,
        detections: int,
        candidates: int | None = None,
        background: bool = False,
        agnostic: bool = False,
        min_size: float = 0.0,
    ) -> None:
        super().__init__()
        self.overlap = overlap
        self.least = least  # above which a score counts
        self.detections = detections
        self.candidates = candidates
        self.background = background
        self.agnostic = agnostic
        self.min_size = min_size

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.background:
            scores = scores[..., 1:]
            boxes = boxes[:, :, 1:] if boxes.dim() == 4 else boxes
        own = None  # the class of each box, where it has but one
        if self.agnostic:
            scores, own = scores.max(2, keepdim=True)
            boxes = boxes.take_along_dim(own[..., None], 2)[:, :, 0] if boxes.dim() == 4 else boxes
        with torch.no_grad():
            values, places, labels = self.chosen(boxes.detach(), scores.detach())
        found = values > -inf
        at, of_class = places[..., None], labels[..., None]
        rows = scores.take_along_dim(at, 1)
        kept = boxes.take_along_dim(at if boxes.dim() == 3 else at[..., None], 1)
        if boxes.dim() == 4:
            kept = kept.take_along_dim(of_class[..., None], 2)[:, :, 0]
        if own is not None:
            labels = own.take_along_dim(at, 1)[..., 0]
        return (
            kept.where(found[..., None], 0),
            rows.take_along_dim(of_class, 2)[..., 0].where(found, 0),
            labels.where(found, -1),
            found.sum(1),
        )

    def chosen(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scores, places and classes of the best boxes, each N × K; scores of −∞ behind the last one."""
        counts = scores > self.least
        if self.min_size:
            large = _large_enough(boxes, self.min_size)
            counts = counts & (large if large.dim() == 3 else large[..., None])
        many = counts.sum(1)
        most = max(1, min(int(many.max()), self.candidates or scores.shape[1]))
        values, places = best(scores.where(counts, -inf).transpose(1, 2), most)
        kept = torch.full_like(values, -inf)
        for image, classes in enumerate(many.tolist()):
            for label, count in enumerate(classes):
                if count:
                    at = places[image, label, :count]
                    here = boxes[image, at] if boxes.dim() == 3 else boxes[image, at, label]
                    ranks = suppressed(here, self.overlap, self.detections)
                    kept[image, label, ranks] = values[image, label, ranks]
        scores, ranks = best(padded(kept.flatten(1), self.detections), self.detections)
        ranks = ranks.where(scores > -inf, 0)
        return scores, places.flatten(1).gather(1, ranks), ranks // most


@lowers(Nms)
class NmsLowering(Lowering):
    chooses = True

    @staticmethod
    def torch(op: Nms, inputs: tuple[TensorType, ...]) -> nn.Module:
        return BestBoxes(op.iou, op.score, op.detections, op.candidates, op.background, op.agnostic, op.min_size)

    @staticmethod
    def onnx(op: Nms, node: Emitter) -> None:
        """Where a class has boxes of its own, by what they are or by which are the best, it is an image of one class.

        NonMaxSuppression then sees N·C images.
        """
        boxes, scores = _one_at_least(node)
        size, classes = node.types[1].shape[1], 1 if op.agnostic else op.classes(node.types[1])
        if op.candidates is not None and isinstance(size, int) and size > op.candidates:
            boxes, scores = _above(op, node, boxes, scores, size)
            size = symbol("above")
        boxes, scores, own = _scored(op, node, boxes, scores)
        alone = node.types[0].rank == 4 and not op.agnostic
        if op.candidates is not None and not (isinstance(size, int) and size <= op.candidates):
            count, size = _count_of_class(node, scores, op.score, op.candidates), symbol("of_class")
            scores, places = node.emit_several("TopK", [scores, count], ["best", "places"], axis=2)
            at = node.emit("Unsqueeze", [places, node.constant("inner", [3])], "places_at")
            boxes = node.emit("GatherND", [boxes, at], "candidates", batch_dims=2 if alone else 1)
            own = node.emit("Flatten", [node.emit("GatherND", [own, at], "owns", batch_dims=1)], "own") if own else ""
            alone = True
        if alone:
            rows = node.emit("Reshape", [scores, node.constant("row", [-1, 1, 0])], "rows")
            kept = _kept(node, _by_class(node, boxes, size), rows, op.iou, op.score, op.detections)
            boxes = node.emit("Reshape", [boxes, node.constant("all", [0, -1, 4])], "all_boxes")
        else:
            kept = _kept(node, boxes, scores, op.iou, op.score, op.detections)
        in_a_row = _in_a_row(node, kept, size, classes if alone else 0)
        values, ranks, found = _best_of(node, in_a_row, size * classes, op.detections, op.score)
        if isinstance(size, int):
            of_class = node.constant("of_class", [size])
        else:
            of_class = node.emit("Shape", [kept], "of_class", start=2)
        last, nothing = node.constant("last_axis", [-1]), node.scalar("nothing", 0.0)
        places = ranks if alone else node.emit("Mod", [ranks, of_class], "place")
        at = node.emit("Unsqueeze", [places, last], "at")
        chosen = node.emit("GatherND", [boxes, at], "best_boxes", batch_dims=1)
        node.emit_part("Where", [node.emit("Unsqueeze", [found, last], "found_boxes"), chosen, nothing], "boxes")
        node.emit_part("Where", [found, values, nothing], "scores")
        if own:
            labels = node.emit("GatherND", [own, at], "best_labels", batch_dims=1)
        else:
            labels = node.emit("Div", [ranks, of_class], "best_labels")
        node.emit_part("Where", [found, labels, node.whole("no_class", -1)], "labels")
        ones = node.emit("Cast", [found], "ones", to=TensorProto.INT64)
        node.emit_part("ReduceSum", [ones, node.constant("boxes_axis", [1])], "counts", keepdims=0)


def _above(op: Nms, node: Emitter, boxes: str, scores: str, size: int) -> tuple[str, str]:
    """The boxes, and their scores N × B × C, of which a class in any image is above the least, and the first box.

    Choosing the best of all of them takes longer than all the rest, and of nearly all no score counts. One is left at
    least, so that what follows has something to choose from.
    """
    counting = _foreground(op, node, scores, "counting")
    of_image = node.emit("ReduceMax", [counting, node.constant("class_axis", [2])], "most_of_boxes", keepdims=0)
    most = node.emit("ReduceMax", [of_image, node.constant("image_axis", [0])], "most_of_box", keepdims=0)
    first = node.array("first_box", np.arange(size) == 0)
    some = node.emit("Or", [node.emit("Greater", [most, node.scalar("worst", op.score)], "above"), first], "left")
    places = node.emit("Reshape", [node.emit("NonZero", [some], "places_left"), node.constant("flat", [-1])], "index")
    boxes = node.emit("Gather", [boxes, places], "boxes_left", axis=1)
    return boxes, node.emit("Gather", [scores, places], "scores_left", axis=1)


def _count_of_class(node: Emitter, scores: str, least: float, most: int) -> str:
    """How many boxes of each class are taken of scores N × C × B, a vector of one: as many as count, 1 at least.

    Putting all in order that a class may have takes longer than all the rest, and mostly few of them count.
    """
    counting = node.emit("Greater", [scores, node.scalar("worst", least)], "counting_of_class")
    ones = node.emit("Cast", [counting], "ones_of_class", to=TensorProto.INT64)
    many = node.emit("ReduceSum", [ones, node.constant("box_axis", [2])], "many_of_class", keepdims=0)
    several = node.emit("ReduceMax", [many], "many", keepdims=0)
    some = node.emit("Max", [several, node.constant("one", [1])], "some")
    return node.emit("Min", [some, node.constant("most_of_class", [most])], "count")


def _foreground(op: Nms, node: Emitter, values: str, name: str) -> str:
    """Scores or boxes N × B × C … without the background's, which stand first."""
    if not op.background:
        return values
    behind = [node.constant(key, [at]) for key, at in (("first_class", 1), ("end", 2**62), ("class_axis", 2))]
    return node.emit("Slice", [values, *behind], name)


def _by_class(node: Emitter, boxes: str, size: Dim) -> str:
    """Boxes N × C × B × 4 as (N·C) × B × 4."""
    if isinstance(size, int):
        return node.emit("Reshape", [boxes, node.constant("each", [-1, size, 4])], "box_rows")
    flat = node.emit("Flatten", [boxes], "box_numbers", axis=2)
    return node.emit("Reshape", [flat, node.constant("each", [0, -1, 4])], "box_rows")


def _in_a_row(node: Emitter, kept: str, size: Dim, classes: int) -> str:
    """Scores N × C × B, or (N·C) × 1 × B of so many `classes`, as N × (C·B)."""
    if classes and isinstance(size, int):
        return node.emit("Reshape", [kept, node.constant("whole_row", [-1, classes * size])], "in_a_row")
    if classes:
        kept = node.emit("Reshape", [kept, node.constant("classes", [-1, classes, 0])], "kept_by_class")
    return node.emit("Flatten", [kept], "in_a_row", axis=1)


def _scored(op: Nms, node: Emitter, boxes: str, scores: str) -> tuple[str, str, str]:
    """Boxes N × B × 4 or N × C × B × 4, their scores N × C × B, and the class of each, N × B, where it has but one."""
    of_class = node.types[0].rank == 4
    scores = _foreground(op, node, scores, "foreground")
    boxes = _foreground(op, node, boxes, "foreground_boxes") if of_class else boxes
    own = ""
    if op.agnostic:
        classes = node.constant("class_axis", [2])
        own = node.emit("ArgMax", [scores], "own_class", axis=2, keepdims=0)
        scores = node.emit("ReduceMax", [scores, classes], "own_score")
        if of_class:
            at = node.emit("Unsqueeze", [own, classes], "own_class_at")
            boxes = node.emit("GatherND", [boxes, at], "own_boxes", batch_dims=2)
            of_class = False
    if op.min_size:
        large = _large(node, boxes, op.min_size, keep=not of_class)
        scores = node.emit("Where", [large, scores, node.scalar("none", -inf)], "of_large")
    if of_class:
        boxes = node.emit("Transpose", [boxes], "boxes_by_class", perm=[0, 2, 1, 3])
    return boxes, node.emit("Transpose", [scores], "by_class", perm=[0, 2, 1]), own


def _one_at_least(node: Emitter) -> tuple[str, str]:
    """The boxes and scores; with a box that does not count, where they may be none: as many as an input has."""
    if not str(node.types[1].shape[1]).isidentifier():
        return node.inputs[0], node.inputs[1]
    found = []
    for name, value, rank, fill in zip(
        ("boxes", "scores"), node.inputs, (node.types[0].rank, 3), (0.0, -inf), strict=True
    ):
        pads = node.constant(f"behind_{name}", [*[0] * rank, 0, 1, *[0] * (rank - 2)])
        found.append(node.emit("Pad", [value, pads, node.scalar(f"no_{name}", fill)], f"{name}_and_one"))
    return found[0], found[1]


def _large(node: Emitter, boxes: str, least: float, keep: bool = True) -> str:
    """Which boxes N × … × 4 have no side below `least`, N × … × 1, or without `keep` N × …."""
    axis = node.constant("side_axis", [-1])
    side = node.emit("ReduceMin", [box_sides(node, boxes), axis], "shorter_side", keepdims=int(keep))
    return node.emit("GreaterOrEqual", [side, node.scalar("least_side", least)], "large")


def _kept(node: Emitter, boxes: str, scores: str, overlap: float, least: float, most: int) -> str:
    """The scores, N × C × B, of what suppression keeps of each class; −∞ elsewhere."""
    limits = [node.constant("most", [most]), node.constant("overlap", [overlap]), node.constant("least_score", [least])]
    chosen = node.emit("NonMaxSuppression", [boxes, scores, *limits], "chosen")
    nothing = helper.make_tensor("none", TensorProto.FLOAT, [1], [-inf])
    empty = node.emit("ConstantOfShape", [node.emit("Shape", [scores], "size")], "empty", value=nothing)
    return node.emit("ScatterND", [empty, chosen, node.emit("GatherND", [scores, chosen], "chosen_scores")], "kept")


def _best_of(node: Emitter, kept: str, size: Dim, count: int, least: float) -> tuple[str, str, str]:
    """The best of each image of N × B (× 1) scores: these, their ranks, and which there are, N × count (× 1)."""
    enough = isinstance(size, int) and size >= count
    if not enough:
        pads = [node.constant("behind", [0, count]), node.scalar("none", -inf), node.constant("row_axis", [1])]
        kept = node.emit("Pad", [kept, *pads], "and_behind")
    values, ranks = node.emit_several("TopK", [kept, node.constant("detections", [count])], ["values", "ranks"], axis=1)
    found = node.emit("Greater", [values, node.scalar("worst", least)], "found")
    return values, ranks if enough else node.emit("Where", [found, ranks, node.whole("first", 0)], "found_ranks"), found


class BestOfLevels(nn.Module):
    """The proposals of each image, N × count × 4, from the objectness of each of some levels, and then their boxes."""

    def __init__(
        self, levels: int, count: int, candidates: int, overlap: float, min_size: float, in_training: int
    ) -> None:
        super().__init__()
        self.levels = levels
        self.count = count
        self.candidates = candidates
        self.overlap = overlap
        self.min_size = min_size
        self.in_training = in_training  # candidates and proposals

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        count = self.in_training if self.training else self.count
        candidates = self.in_training if self.training else self.candidates
        all_boxes = torch.cat(inputs[self.levels :], 1)
        sizes = [x.shape[1] for x in inputs[: self.levels]]
        found, kept = [], []
        for objectness, boxes in zip(inputs, all_boxes.split_with_sizes(sizes, 1), strict=False):
            marks = objectness[..., 1] - objectness[..., 0] if objectness.shape[2] == 2 else objectness[..., 0]
            scores, places = best(marks, min(candidates, marks.shape[1]))
            boxes = boxes.take_along_dim(places[..., None], 1)
            found.append(boxes)
            kept.append(self.kept(boxes, scores.where(_large_enough(boxes, self.min_size), -inf), count))
        scores, ranks = best(padded(torch.cat(kept, 1), count), count)
        there = scores > -inf
        chosen = torch.cat(found, 1).take_along_dim(ranks.where(there, 0)[..., None], 1)
        return chosen.where(there[..., None], 0)

    def kept(self, boxes: Tensor, scores: Tensor, count: int) -> Tensor:
        """The scores N × K of what is kept of boxes N × K × 4, best first; −∞ elsewhere."""
        kept = torch.full_like(scores, -inf)
        for image, there in enumerate(scores > -inf):
            ranks = there.nonzero()[:, 0]
            ranks = ranks[suppressed(boxes[image, ranks], self.overlap, count)]
            kept[image, ranks] = scores[image, ranks]
        return kept


@lowers(Proposals)
class ProposalsLowering(Lowering):
    chooses = True

    @staticmethod
    def torch(op: Proposals, inputs: tuple[TensorType, ...]) -> nn.Module:
        return BestOfLevels(op.levels(*inputs), op.count, op.candidates, op.iou, op.min_size, op.training)

    @staticmethod
    def onnx(op: Proposals, node: Emitter) -> None:
        """As many candidates of each level, of which those behind the last one don't count.

        To NonMaxSuppression, N × L images of one class.
        """
        levels = op.levels(*node.types)
        sizes = [x.shape[1] for x in node.types[:levels]]
        most = min(op.candidates, max(size if isinstance(size, int) else op.candidates for size in sizes))
        found = [_candidates(node, index, most) for index in range(levels)]
        places = _in_all(node, _joined(node, [places for _, places in found], "places"), sizes, most)
        boxes = _joined(node, node.inputs[levels:], "boxes")
        if not all(isinstance(size, int) and size >= most for size in sizes):
            there = node.emit("Shape", [boxes], "boxes_there", start=1, end=2)
            places = node.emit("Mod", [places, there], "any_place")  # for those that don't count, which have none
        boxes = node.emit("GatherND", [boxes, places], "candidates", batch_dims=1)
        scores = _joined(node, [scores for scores, _ in found], "scores")
        counting = [_large(node, boxes, op.min_size), scores, node.scalar("none", -inf)]
        each = node.emit("Reshape", [boxes, node.constant("each", [-1, most, 4])], "box_rows")
        row = node.constant("row", [-1, 1, most])
        rows = node.emit("Reshape", [node.emit("Where", counting, "of_large"), row], "rows")
        kept = _kept(node, each, rows, op.iou, LEAST, op.count)
        column = node.emit("Reshape", [kept, node.constant("column", [-1, levels * most, 1])], "of_all_levels")
        _, ranks, there = _best_of(node, column, levels * most, op.count, LEAST)
        chosen = node.emit("GatherND", [boxes, ranks], "best_boxes", batch_dims=1)
        node.emit("Where", [there, chosen, node.scalar("nothing", 0.0)])


def _candidates(node: Emitter, index: int, most: int) -> tuple[str, str]:
    """The scores of the best of a level, N × K × 1, and their places on it; where there are fewer, −∞ behind them."""
    (_, size, numbers), objectness = node.types[index].shape, node.inputs[index]
    if numbers == 2:
        columns = [f"background{index}", f"object{index}"]
        parts = node.emit_several("Split", [objectness, node.constant("one_each", [1, 1])], columns, axis=2)
        objectness = node.emit("Sub", parts[::-1], f"objectness{index}")
    if not (isinstance(size, int) and size >= most):
        pads = node.constant("behind_last", [0, 0, 0, 0, most, 0])
        objectness = node.emit("Pad", [objectness, pads, node.scalar("none", -inf)], f"and_behind{index}")
    count = node.constant("most_of_level", [most])
    scores, places = node.emit_several("TopK", [objectness, count], [f"best{index}", f"places{index}"], axis=1)
    return scores, places


def _in_all(node: Emitter, places: str, sizes: list[Dim], most: int) -> str:
    """The places on levels of these sizes, of each so many, as places among the boxes of all levels."""
    if len(sizes) == 1:
        return places
    level = np.arange(len(sizes)).repeat(most)[:, None]
    known = [size for size in sizes[:-1] if isinstance(size, int)]
    if len(known) == len(sizes) - 1:
        start = node.array("start", np.cumsum([0, *known])[level])
    else:
        lengths = [node.size(index, 1, 2, f"length{index}") for index in range(len(sizes) - 1)]
        before = node.emit("Concat", [node.constant("begin", [0]), *lengths], "before", axis=0)
        starts = node.emit("CumSum", [before, node.whole("axis", 0)], "starts")
        start = node.emit("Gather", [starts, node.array("level", level)], "start")
    return node.emit("Add", [places, start], "place")


def _joined(node: Emitter, parts: Sequence[str], name: str) -> str:
    return parts[0] if len(parts) == 1 else node.emit("Concat", parts, name, axis=1)
