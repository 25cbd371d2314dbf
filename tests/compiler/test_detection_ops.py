"""Anchors, decoded boxes and suppression, against hand-worked cases, a plain greedy loop and ONNX Runtime's own op."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import netspec
from compiler.export import export
from compiler.module import build
from netspec.explain import explain_layer
from netspec.loading import check_source
from netspec.source import Source


def network_of(inputs: str, *net: str) -> netspec.Network:
    text = "\n".join(["netspec: 1", f"inputs: {{{inputs}}}", "net:", *(f"  {line}" for line in net)])
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def run(network: netspec.Network, folder: Path, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs in PyTorch, which ONNX Runtime's have to be."""
    module = build(network).eval()
    with torch.inference_mode():
        found = module(*inputs)
    named = by_name(network, found)
    export(network, module, folder / "net.onnx")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    fed = {name: tensor.numpy() for name, tensor in zip(network.inputs, inputs, strict=True)}
    for (name, expected), served in zip(named.items(), session.run(None, fed), strict=True):
        np.testing.assert_allclose(served, expected.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
    return named


def by_name(network: netspec.Network, found: torch.Tensor | tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """What a module gives, by the last part of the outputs' names: `boxes` of `found.boxes`."""
    names = [name.rpartition(".")[2] for name in network.outputs]
    return dict(zip(names, found if isinstance(found, tuple) else (found,), strict=True))


def some_boxes(*shape: int, seed: int = 0, extent: float = 40.0) -> torch.Tensor:
    """Boxes of whole sizes on a small canvas, so that many overlap and overlaps are often equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, int(extent), (*shape, 2), generator=generator).float()
    return torch.cat((corner, corner + torch.randint(1, 16, (*shape, 2), generator=generator)), -1)


def some_scores(*shape: int, seed: int = 0) -> torch.Tensor:
    """Scores of which many are equal."""
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(seed)).float() / 20


def greedy(boxes: np.ndarray, scores: np.ndarray, overlap: float, least: float, candidates: int | None) -> list[int]:
    """Girshick et al. 2014, section 2.2, written as a loop over the boxes of one class."""
    ranked = sorted((i for i in range(len(boxes)) if scores[i] > least), key=lambda i: (-scores[i], i))[:candidates]
    kept: list[int] = []
    for i in ranked:
        for j in kept:
            sides = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            shared = np.prod(np.maximum(sides, 0))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)]
            if shared > overlap * (sum(areas) - shared):
                break
        else:
            kept.append(i)
    return kept


def expected_detections(
    boxes: np.ndarray, scores: np.ndarray, overlap: float, least: float, detections: int, candidates: int | None = None
) -> list[tuple[float, int, list[float]]]:
    """Score, class and box of each detection of an image, of boxes B × C × 4."""
    found = [
        (-float(scores[i, label]), label, rank, i)
        for label in range(scores.shape[1])
        for rank, i in enumerate(greedy(boxes[:, label], scores[:, label], overlap, least, candidates))
    ]
    return [(-score, label, boxes[i, label].tolist()) for score, label, _, i in sorted(found)[:detections]]


def detections_of(found: dict[str, torch.Tensor], image: int) -> list[tuple[float, int, list[float]]]:
    count = int(found["counts"][image])
    boxes, scores, labels = (found[name][image] for name in ("boxes", "scores", "labels"))
    assert not boxes[count:].any() and not scores[count:].any() and (labels[count:] == -1).all()
    rows = zip(scores[:count].tolist(), labels[:count].tolist(), boxes[:count].tolist(), strict=True)
    return [(score, label, box) for score, label, box in rows]


# -- anchors


def test_anchors_are_worked_out_by_hand(tmp_path: Path) -> None:
    """Size 32: 45.25 × 22.63 at ratio 1/2, 32 × 32, 22.63 × 45.25 at 2; halved and rounded 23, 11; 16, 16; 11, 23."""
    net = ("map: {conv: 1, kernel: 16, stride: 16}", "anchors: {anchors: [32], strides: [16]}")
    network = network_of("image: {shape: [N, 3, 32, 48]}", *net)
    boxes = run(network, tmp_path, torch.zeros(2, 3, 32, 48))["anchors"]
    first = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert boxes.shape == (2, 2 * 3 * 3, 4)
    assert boxes[1, :3].tolist() == first
    assert boxes[0, 3:6].tolist() == [[x1 + 16, y1, x2 + 16, y2] for x1, y1, x2, y2 in first]  # the next column
    assert boxes[0, 9:12].tolist() == [[x1, y1 + 16, x2, y2 + 16] for x1, y1, x2, y2 in first]  # the next row


def test_sizes_run_within_ratios_and_levels_follow_one_another() -> None:
    net = (
        "a: {conv: 1, kernel: 8, stride: 8}",
        "b: {conv: 1, kernel: 2, stride: 2}",
        "anchors: {anchors: [[10, 20], 40], strides: [8, 16], ratios: [1, 4], from: [a, b]}",
    )
    network = network_of("image: {shape: [N, 3, 16, 16]}", *net)
    boxes = build(network)(torch.zeros(1, 3, 16, 16))[0]
    assert boxes[:4].tolist() == [[-5, -5, 5, 5], [-10, -10, 10, 10], [-2, -10, 2, 10], [-5, -20, 5, 20]]
    assert boxes[16:].tolist() == [[-20, -20, 20, 20], [-10, -40, 10, 40]]  # behind the 2·2·4 of the first level
    lines = [str(line) for line in explain_layer(network, "anchors")]
    assert "2 sizes × 2 ratios = 4" in lines
    assert "1 size × 2 ratios = 2" in lines
    assert "16 + 2 = 18" in lines


def test_default_boxes_are_worked_out_by_hand(tmp_path: Path) -> None:
    """Scales 0.2 and 0.8 of 40 × 20 pixels: squares of parts 0.2 and √0.16 = 0.4; ratio 4 gives 0.4 by 0.1 and back."""
    net = (
        "map: {conv: 1, kernel: 10, stride: 10}",
        "boxes: {default_boxes: [0.2, 0.8], ratios: [[4]], strides: [10], from: [map, image]}",
    )
    network = network_of("image: {shape: [N, 3, H, W], sizes: {H: 20, W: 40}}", *net)
    boxes = run(network, tmp_path, torch.zeros(1, 3, 20, 40))["boxes"]
    hand = torch.tensor([[1, 3, 9, 7], [-3, 1, 13, 9], [-3, 4, 13, 6], [3, 1, 7, 9.0]])
    torch.testing.assert_close(boxes[0, :4], hand)
    torch.testing.assert_close(boxes[0, 4:8], hand + torch.tensor([10.0, 0, 10, 0]))
    assert boxes.shape == (1, 2 * 4 * 4, 4)


def test_a_rows_numbers_are_those_of_its_box() -> None:
    network = network_of("x: {shape: [N, 6, 2, 2]}", "rows: {per_box: 3}")
    x = torch.arange(24.0).reshape(1, 6, 2, 2)  # channel c of place p holds 4·c + p
    rows = build(network)(x)[0]
    assert rows[:3].tolist() == [[0, 4, 8], [12, 16, 20], [1, 5, 9]]  # both boxes of the first place, one of the next


# -- decoding


def test_deltas_are_decoded_by_hand(tmp_path: Path) -> None:
    """A box 20 × 40 around (30, 40): moved by 0.1 widths and −0.2 heights, twice as wide and e^0.5 = 1.6487 as high."""
    network = network_of(
        "d: {shape: [N, 1, 4]}, b: {shape: [N, 1, 4]}", "boxes: {decode_boxes: [d, b], offset_weights: [10, 10, 5, 5]}"
    )
    deltas = torch.tensor([[[1.0, -2.0, 5 * 0.6931472, 2.5]]])
    boxes = run(network, tmp_path, deltas, torch.tensor([[[20.0, 20.0, 40.0, 60.0]]]))["boxes"]
    torch.testing.assert_close(boxes[0, 0], torch.tensor([12.0, 32 - 32.974426, 52.0, 32 + 32.974426]))


def test_a_box_grows_a_thousand_sixteenths_at_most(tmp_path: Path) -> None:
    network = network_of("d: {shape: [N, 1, 4]}, b: {shape: [N, 1, 4]}", "boxes: {decode_boxes: [d, b]}")
    deltas = torch.tensor([[[0.0, 0.0, 100.0, 100.0]]])
    boxes = run(network, tmp_path, deltas, torch.tensor([[[0.0, 0.0, 16.0, 32.0]]]))["boxes"]
    torch.testing.assert_close(boxes[0, 0], torch.tensor([-492.0, -984.0, 508.0, 1016.0]))


@pytest.mark.parametrize("size", ["3, 20, 30", "3, H, W"])
def test_boxes_are_cut_off_at_the_borders(size: str, tmp_path: Path) -> None:
    sizes = ", sizes: {H: 20, W: 30}" if "H" in size else ""
    inputs = f"b: {{shape: [N, 2, 4]}}, image: {{shape: [N, {size}]{sizes}}}"
    network = network_of(inputs, "clipped: {clip_boxes: [b, image]}")
    boxes = torch.tensor([[[-4.0, 5.0, 31.0, 21.0], [2.0, -1.0, 3.0, 19.0]]])
    found = run(network, tmp_path, boxes, torch.zeros(1, 3, 20, 30))["clipped"]
    assert found[0].tolist() == [[0, 5, 30, 20], [2, 0, 3, 19]]


# -- suppression


@pytest.mark.parametrize("of_class", [False, True], ids=["shared", "of each class"])
@pytest.mark.parametrize("candidates", [None, 40])
@pytest.mark.parametrize(("size", "least"), [("B", 0.3), ("300", 0.3), ("300", 0.92), ("B", 0.92)])
def test_detections_are_those_of_the_greedy_loop(
    of_class: bool, candidates: int | None, size: str, least: float, tmp_path: Path
) -> None:
    """With more than the candidates of a class above the least score, and with fewer."""
    shape = (3, 300, 3) if of_class else (3, 300)
    boxes, scores = some_boxes(*shape), some_scores(3, 300, 3)
    told = f", candidates: {candidates}" if candidates else ""
    network = network_of(
        f"b: {{shape: [N, {size}{', 3' if of_class else ''}, 4]}}, s: {{shape: [N, {size}, 3]}}",
        f"found: {{nms: 0.4, score: {least}, detections: 50, from: [b, s]{told}}}",
    )
    found = run(network, tmp_path, boxes, scores)
    for image in range(3):
        each = boxes[image] if of_class else boxes[image, :, None].expand(-1, 3, -1)
        expected = expected_detections(each.numpy(), scores[image].numpy(), 0.4, least, 50, candidates)
        assert detections_of(found, image) == expected
        assert len(expected) == 50 or candidates or least > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_the_boxes_kept_are_those_of_onnx_runtimes_own_op(seed: int) -> None:
    boxes, scores = some_boxes(1, 400, seed=seed), some_scores(1, 2, 400, seed=seed)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["b", "s", "most", "iou", "least"], ["kept"])],
        "nms",
        [info("b", TensorProto.FLOAT, [1, 400, 4]), info("s", TensorProto.FLOAT, [1, 2, 400])],
        [info("kept", TensorProto.INT64, [None, 3])],
        [
            helper.make_tensor("most", TensorProto.INT64, [1], [400]),
            helper.make_tensor("iou", TensorProto.FLOAT, [1], [0.3]),
            helper.make_tensor("least", TensorProto.FLOAT, [1], [0.1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (kept,) = session.run(None, {"b": boxes.numpy(), "s": scores.numpy()})
    network = network_of(
        "b: {shape: [N, B, 4]}, s: {shape: [N, B, 2]}", "found: {nms: 0.3, score: 0.1, detections: 800, from: [b, s]}"
    )
    found = by_name(network, build(network)(boxes, scores.transpose(1, 2)))
    theirs = sorted((int(label), *boxes[0, place].tolist()) for _, label, place in kept)
    assert sorted((label, *box) for _, label, box in detections_of(found, 0)) == theirs


def test_a_suppressed_box_suppresses_nothing(tmp_path: Path) -> None:
    """In a row of boxes, each a quarter over the next, only the first, third and fifth are left."""
    boxes = torch.tensor([[[6.0 * i, 0, 6.0 * i + 8, 8] for i in range(5)]])
    scores = torch.tensor([[[0.9], [0.8], [0.7], [0.6], [0.5]]])
    inputs = "b: {shape: [N, 5, 4]}, s: {shape: [N, 5, 1]}"
    found = run(network_of(inputs, "found: {nms: 0.14, detections: 5, from: [b, s]}"), tmp_path, boxes, scores)
    assert found["scores"][0, :3].tolist() == pytest.approx([0.9, 0.7, 0.5])  # 16/(64 + 64 − 16) = 0.143
    found = run(network_of(inputs, "found: {nms: 0.15, detections: 5, from: [b, s]}"), tmp_path, boxes, scores)
    assert int(found["counts"]) == 5


@pytest.mark.parametrize("rest", ["", ", candidates: 3", ", agnostic: true", ", min_size: 1"])
def test_an_image_without_a_detection_beside_one_that_has_some(rest: str, tmp_path: Path) -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 9]] * 6, [[5.0, 5, 8, 8]] * 6])
    scores = torch.zeros(2, 6, 3)
    network = network_of(
        "b: {shape: [N, B, 4]}, s: {shape: [N, B, 3]}", f"found: {{nms: 0.5, detections: 4, from: [b, s]{rest}}}"
    )
    assert run(network, tmp_path, boxes, scores)["counts"].tolist() == [0, 0]
    scores[1, 4, 2] = 0.75
    found = run(network, tmp_path, boxes, scores)
    assert found["counts"].tolist() == [0, 1]
    assert detections_of(found, 1) == [(0.75, 2, [5, 5, 8, 8])]
    assert run(network, tmp_path, boxes[:1, :1], scores[:1, :1])["counts"].tolist() == [
        0
    ]  # fewer boxes than detections


def test_the_background_is_left_out_and_classes_count_from_the_next(tmp_path: Path) -> None:
    scores = torch.tensor([[[0.9, 0.1, 0.2], [0.1, 0.7, 0.6]]])
    boxes = torch.tensor([[[0.0, 0, 4, 4], [10, 10, 14, 14]]])
    inputs = "b: {shape: [N, 2, 4]}, s: {shape: [N, 2, 3]}"
    network = network_of(inputs, "found: {nms: 0.5, score: 0.15, detections: 9, background: true, from: [b, s]}")
    found = run(network, tmp_path, boxes, scores)
    rows = [(round(score, 3), label, box[0]) for score, label, box in detections_of(found, 0)]
    assert rows == [(0.7, 0, 10), (0.6, 1, 10), (0.2, 1, 0)]
    network = network_of(inputs, "found: {nms: 0.5, background: true, agnostic: true, from: [b, s]}")
    rows = [(round(score, 3), label) for score, label, _ in detections_of(run(network, tmp_path, boxes, scores), 0)]
    assert rows == [(0.7, 0), (0.2, 1)]


def test_a_box_with_a_short_side_does_not_count(tmp_path: Path) -> None:
    boxes = torch.tensor([[[0.0, 0, 0.5, 9], [0, 0, 9, 9], [3, 3, 3, 3]]])
    scores = torch.tensor([[[0.9], [0.8], [0.7]]])
    inputs = "b: {shape: [N, 3, 4]}, s: {shape: [N, 3, 1]}"
    found = run(network_of(inputs, "found: {nms: 0.5, min_size: 1, from: [b, s]}"), tmp_path, boxes, scores)
    assert [box for _, _, box in detections_of(found, 0)] == [[0, 0, 9, 9]]


def test_scores_and_boxes_that_are_found_have_gradients() -> None:
    network = network_of("b: {shape: [N, 2, 4]}, s: {shape: [N, 2, 1]}", "found: {nms: 0.5, from: [b, s]}")
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 4]]], requires_grad=True)
    scores = torch.tensor([[[0.5], [0.9]]], requires_grad=True)
    found, values, _, _ = build(network)(boxes, scores)
    (found.sum() + values.sum()).backward()
    assert scores.grad.flatten().tolist() == [0, 1]
    assert boxes.grad[0, :, 0].tolist() == [0, 1]


# -- proposals

LEVELS = "o3: {shape: [N, A, 1]}, o4: {shape: [N, B, 1]}, b3: {shape: [N, A, 4]}, b4: {shape: [N, B, 4]}"


def test_proposals_are_suppressed_on_their_own_level_only(tmp_path: Path) -> None:
    near = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 9], [20, 20, 28, 28]]])
    marks = torch.tensor([[[-1.0], [2.0], [-3.0]]])
    network = network_of(LEVELS, "found: {proposals: 4, candidates: 3, from: [o3, o4, b3, b4]}")
    found = run(network, tmp_path, marks, marks[:, :2] + 0.5, near, near[:, :2])["found"]
    assert found[0].tolist() == [[0, 0, 8, 9], [0, 0, 8, 9], [20, 20, 28, 28], [0, 0, 0, 0]]


def test_only_the_best_candidates_of_a_level_become_proposals(tmp_path: Path) -> None:
    boxes, marks = some_boxes(2, 200), some_scores(2, 200, 1) - 0.5
    network = network_of(LEVELS, "found: {proposals: 60, candidates: 25, iou: 0.2, from: [o3, o4, b3, b4]}")
    found = run(network, tmp_path, marks, marks[:, :9], boxes, boxes[:, :9])["found"]
    for image in range(2):
        kept = []
        for level, count in enumerate((200, 9)):
            here, scores = boxes[image, :count].numpy(), marks[image, :count, 0].numpy()
            for i in greedy(here, scores, 0.2, -np.inf, 25):
                kept.append((-scores[i], level, len(kept), here[i].tolist()))
        expected = [box for *_, box in sorted(kept)]
        assert len(expected) < 34
        assert found[image, : len(expected)].tolist() == expected
        assert not found[image, len(expected) :].any()


def test_training_has_proposals_of_its_own_number() -> None:
    network = network_of(LEVELS, "found: {proposals: 5, candidates: 4, training: 20, from: [o3, o4, b3, b4]}")
    module = build(network)
    boxes = some_boxes(1, 50, extent=2000)
    inputs = (some_scores(1, 50, 1), some_scores(1, 50, 1, seed=1), boxes, boxes)
    assert module.eval()(*inputs).shape == (1, 5, 4)
    assert module.train()(*inputs).any(-1).sum() == 20


def test_of_two_columns_the_second_says_that_there_is_an_object(tmp_path: Path) -> None:
    inputs = "o: {shape: [N, 2, 2]}, b: {shape: [N, 2, 4]}"
    boxes = torch.tensor([[[0.0, 0, 4, 4], [9, 9, 12, 12]]])
    marks = torch.tensor([[[5.0, 4.0], [-3.0, -2.0]]])
    found = run(network_of(inputs, "found: {proposals: 2, from: [o, b]}"), tmp_path, marks, boxes)["found"]
    assert found[0].tolist() == [[9, 9, 12, 12], [0, 0, 4, 4]]
