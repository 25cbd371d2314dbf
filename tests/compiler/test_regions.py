"""Pooling of boxes held against ONNX Runtime's own operators, and boxes of grids against cells worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
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


def refusal_of(inputs: str, *net: str) -> str:
    text = "\n".join(["netspec: 1", f"inputs: {{{inputs}}}", "net:", *(f"  {line}" for line in net)])
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is None
    return " ".join(f"{found.message}; {found.help}" for found in checked.diagnostics)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def drawn_boxes(images: int, count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Boxes of all sizes, of which some reach over the rim of an image of `size`, and one without area each."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(images, count, 2, generator=generator) * size * 1.2 - 0.2 * size
    extent = torch.rand(images, count, 2, generator=generator) ** 2 * size
    boxes = torch.cat([first, first + extent], 2)
    boxes[:, -1] = 0
    return boxes


def run_onnx(network: netspec.Network, module: torch.nn.Module, path: Path, *inputs: torch.Tensor) -> np.ndarray:
    export(network, module, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: x.numpy() for name, x in zip(network.inputs, inputs, strict=True)})[0]


def own_operator(op_type: str, inputs: dict[str, np.ndarray], **attributes: object) -> np.ndarray:
    """One operator of ONNX Runtime, called as it is."""
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    given = [helper.make_tensor_value_info(n, kinds[str(x.dtype)], x.shape) for n, x in inputs.items()]
    node = helper.make_node(op_type, list(inputs), ["y"], **attributes)
    graph = helper.make_graph([node], "one", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


# -- pooling of boxes


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("stride", [4, 3])
def test_roi_align_is_onnx_runtimes(aligned: bool, stride: int) -> None:
    x, boxes = drawn(2, 5, 20, 17), drawn_boxes(2, 40, 20 * stride)
    network = network_of(
        "x: {shape: [N, 5, H, W]}, b: {shape: [N, P, 4]}",
        f"pool: {{roi_align: [7, 5], strides: [{stride}], sampling: 2, aligned: {str(aligned).lower()}, from: [x, b]}}",
    )
    found = build(network)(x, boxes)
    expected = own_operator(
        "RoiAlign",
        {"x": x.numpy(), "rois": boxes.flatten(0, 1).numpy(), "images": np.repeat(np.arange(2), 40)},
        output_height=7, output_width=5, sampling_ratio=2, spatial_scale=1 / stride,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )  # fmt: skip
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("stride", [16, 5])
def test_roi_pool_is_onnx_runtimes(stride: int) -> None:
    x, boxes = drawn(2, 5, 20, 33), drawn_boxes(2, 60, 20 * stride)
    boxes[0, :20] = (boxes[0, :20] / stride).round() * stride + stride / 2  # just between two places
    network = network_of(
        "x: {shape: [N, 5, H, W]}, b: {shape: [N, P, 4]}", f"pool: {{roi_pool: 7, stride: {stride}, from: [x, b]}}"
    )
    numbered = torch.cat([torch.arange(2.0).repeat_interleave(60)[:, None], boxes.flatten(0, 1)], 1)
    expected = own_operator(
        "MaxRoiPool", {"x": x.numpy(), "rois": numbered.numpy()}, pooled_shape=[7, 7], spatial_scale=1 / stride
    )
    found = build(network)(x, boxes)
    np.testing.assert_array_equal(found.flatten(0, 1).numpy(), expected)


PYRAMID = (
    "p2: {shape: [N, 3, 64, 80]}, p3: {shape: [N, 3, 32, 40]}, p4: {shape: [N, 3, 16, 20]}, "
    "p5: {shape: [N, 3, 8, 10]}, b: {shape: [N, P, 4]}"
)
POOLED = "pool: {roi_align: 7, strides: [4, 8, 16, 32], from: [p2, p3, p4, p5, b]}"


def levels() -> list[torch.Tensor]:
    return [drawn(2, 3, 64 >> level, 80 >> level, seed=level) for level in range(4)]


def test_a_box_is_read_from_the_level_that_fits_its_area(tmp_path: Path) -> None:
    """Lin et al. 2016, equation 1: k = ⌊4 + log₂(√(w·h)/224)⌋, so 111 → 2, 112 → 3, 224 → 4, 448 → 5."""
    sides = [0, 3, 111, 112, 223, 224, 447, 448, 900]
    wanted = [2, 2, 2, 3, 3, 4, 4, 5, 5]
    boxes = torch.tensor([[[0, 0, side, side] for side in sides], [[0, 0, side, side] for side in reversed(sides)]])
    network = network_of(PYRAMID, POOLED)
    module = build(network)
    maps = [torch.full((2, 3, 64 >> level, 80 >> level), float(level + 2)) for level in range(4)]
    boxes = boxes.float()
    first = module(*maps, boxes)[:, :, :, 0, 0]  # the cell at the image's corner lies inside every map
    assert first[0, :, 0].tolist() == wanted
    assert first[1, :, 0].tolist() == wanted[::-1]
    found = run_onnx(network, module, tmp_path / "pool.onnx", *levels(), boxes)
    np.testing.assert_allclose(found, module(*levels(), boxes).numpy(), atol=2e-5)


@pytest.mark.parametrize("count", [0, 1, 50])
@pytest.mark.parametrize("layer", [POOLED, "pool: {roi_pool: 6, stride: 4, from: [p2, b]}"], ids=["align", "pool"])
def test_any_number_of_boxes_is_pooled_and_none(layer: str, count: int, tmp_path: Path) -> None:
    """And goes on through convolutions and dense layers."""
    net = ("rows: fold_batch", "conv: {conv: 3, kernel: 1}", "boxes: {unfold_batch: [conv, b]}")
    network = network_of(PYRAMID, layer, *net, "vector: {reshape: [0, -1]}", "fc: {linear: 3}")
    module = build(network).eval()
    tensors = (*levels(), drawn_boxes(2, count, 300) if count else torch.zeros(2, 0, 4))
    with torch.inference_mode():
        expected = module(*tensors)
    assert tuple(expected.shape) == (2, count, 3)
    np.testing.assert_allclose(run_onnx(network, module, tmp_path / "m.onnx", *tensors), expected.numpy(), atol=2e-5)


def test_maps_get_the_gradient_of_what_was_pooled_and_boxes_none() -> None:
    for layer in ("pool: {roi_align: 2, strides: [2], from: [x, b]}", "pool: {roi_pool: 2, stride: 2, from: [x, b]}"):
        module = build(network_of("x: {shape: [N, 2, 9, 8]}, b: {shape: [N, P, 4]}", layer)).double()
        boxes = torch.tensor([[[1.0, 2.0, 9.0, 12.0], [0.0, 0.0, 15.0, 17.0]]], dtype=torch.double, requires_grad=True)
        x = drawn(1, 2, 9, 8).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, module=module, boxes=boxes: module(x, boxes.detach()), x)
        module(x, boxes).sum().backward()
        assert boxes.grad is None


def test_boxes_that_are_no_numbers_stop_nothing() -> None:
    boxes = torch.tensor([[[math.nan] * 4, [-math.inf, 0, math.inf, math.inf], [1e30, 1e30, 3e38, 3e38]]])
    for layer in ("pool: {roi_align: 2, strides: [2], from: [x, b]}", "pool: {roi_pool: 2, stride: 2, from: [x, b]}"):
        module = build(network_of("x: {shape: [N, 2, 9, 8]}, b: {shape: [N, P, 4]}", layer))
        assert tuple(module(drawn(1, 2, 9, 8), boxes).shape) == (1, 3, 2, 2, 2)


def test_a_pyramid_of_a_map_is_worked_by_hand(tmp_path: Path) -> None:
    """Parts of 0…8 in rows of three: all of it; of 2 × 2 parts rows 0–1 and 1–2, columns likewise."""
    network = network_of("x: {shape: [N, 1, H, W]}", "pool: {spatial_pyramid_pool: [2, 1]}")
    x = torch.arange(9.0).view(1, 1, 3, 3)
    module = build(network)
    assert module(x).tolist() == [[4, 5, 7, 8, 8]]
    assert run_onnx(network, module, tmp_path / "m.onnx", x).tolist() == [[4, 5, 7, 8, 8]]


def test_convolutions_on_boxes_are_counted_for_each_box() -> None:
    """3×3×2×5 weights at 4×4 places make 1,440 products for a box, 8 × 1,440 for an image."""
    net = (
        "pool: {roi_align: 4, strides: [1], from: [x, b]}",
        "rows: fold_batch",
        "conv: {conv: 5, kernel: 3, padding: 1}",
        "boxes: {unfold_batch: [conv, pool]}",
    )
    network = network_of("x: {shape: [N, 2, 9, 9]}, b: {shape: [N, 8, 4]}", *net)
    assert network.macs() == 8 * 1_440
    assert network.layer("boxes")["output"].shape[1:] == (8, 5, 4, 4)


# -- boxes of grids


def test_a_yolo_cell_is_worked_by_hand() -> None:
    """σ(0) = ½, σ(ln 3) = ¾; the place in row 1, column 2 of stride 8 is centred on 20, 14 with σ(ty) = ¾.

    The anchor of 10 × 6 with e^(ln 2) is 20 wide and 6 high: from 10, 11 to 30, 17.
    """
    network = network_of("x: {shape: [N, 14, 2, 3]}", "head: {yolo: 2, anchors: [[3, 3], [10, 6]], stride: 8}")
    x = torch.zeros(1, 14, 2, 3)
    log3 = math.log(3)
    x[0, 7:, 1, 2] = torch.tensor([0, log3, math.log(2), 0, log3, 0, -log3])
    network.outputs = {name: f"head.{name}" for name in ("raw", "boxes", "scores")}
    raw, boxes, scores = build(network)(x)
    last = 1 * 3 * 2 + 2 * 2 + 1  # row 1, column 2, the second anchor
    assert last == raw.shape[1] - 1
    torch.testing.assert_close(raw[0, last], x[0, 7:, 1, 2])
    torch.testing.assert_close(boxes[0, last], torch.tensor([10.0, 11.0, 30.0, 17.0]))
    torch.testing.assert_close(scores[0, last], torch.tensor([0.75 * 0.5, 0.75 * 0.25]))
    torch.testing.assert_close(boxes[0, 0], torch.tensor([2.5, 2.5, 5.5, 5.5]))


def test_a_yolo_grid_cell_is_worked_by_hand() -> None:
    """A grid of 2 on an image 40 wide and 20 high has cells of 20 × 10.

    In the cell of row 1, column 0: x = ½, y = 0 is 10, 10; √w = ½ is a width of ¼·40 = 10, √h = 1 a height of 20.
    """
    network = network_of(
        "x: {shape: [N, 52]}, image: {shape: [N, 3, 20, 40]}",
        "head: {yolo_grid: 3, grid: 2, boxes: 2, from: [x, image]}",
    )
    network.outputs = {name: f"head.{name}" for name in ("raw", "boxes", "scores")}
    x = torch.zeros(1, 4, 13)
    x[0, 2] = torch.tensor([0, 0, 0, 0, 0, 0.5, 0, 0.5, 1, 0.8, 0.25, 0.5, 1])
    raw, boxes, scores = build(network)(x.flatten(1), torch.zeros(1, 3, 20, 40))
    assert torch.equal(raw, x)
    torch.testing.assert_close(boxes[0, 2 * 2 + 1], torch.tensor([5.0, 0.0, 15.0, 20.0]))
    torch.testing.assert_close(scores[0, 2 * 2 + 1], torch.tensor([0.2, 0.4, 0.8]))


def test_distances_are_the_means_of_bins() -> None:
    """Half on bin 1 and half on bin 2 is 1½ strides of 8; from the place's centre 12, 4 that is 0 and 24."""
    network = network_of("x: {shape: [N, 12, 1, 2]}", "head: {distances: 3, stride: 8}")
    network.outputs = {"boxes": "head.boxes"}
    x = torch.zeros(1, 4, 3, 1, 2)
    x[0, :, 0, 0, 1] = -1e4  # and so no weight on bin 0
    torch.testing.assert_close(build(network)(x.flatten(1, 2))[0, 1], torch.tensor([0.0, -8.0, 24.0, 16.0]))


# -- what a person reads


def test_the_arithmetic_of_heads_is_told() -> None:
    network = network_of(
        "x: {shape: [N, 255, 13, 13]}, v: {shape: [N, 1470]}, "
        "image: {shape: [N, 3, 448, 448]}, m: {shape: [N, 512, 13, 13]}",
        "v3: {yolo: 80, anchors: [[116, 90], [156, 198], [373, 326]], stride: 32, from: x}",
        "v1: {yolo_grid: 20, from: [v, image]}",
        "spp: {spatial_pyramid_pool: [4, 2, 1], from: m}",
    )
    lines = {path: [str(line) for line in explain_layer(network, path)] for path in ("v3", "v1", "spp")}
    assert "3 × (5 + 80) = 255" in lines["v3"]
    assert "13 × 13 × 3 = 507" in lines["v3"]
    assert "7 × 7 × (2·5 + 20) = 1470" in lines["v1"]
    assert "512 × (4² + 2² + 1²) = 10752" in lines["spp"]


@pytest.mark.parametrize(
    ("inputs", "layer", "words"),
    [
        (
            "x: {shape: [N, 75, 4, 4]}",
            "{yolo: 80, anchors: [[1, 2]], stride: 8}",
            "1 × (5 + 80) = 85 channels are needed",
        ),
        ("x: {shape: [N, 60, 4, 4]}", "{distances: 16, stride: 8}", "4 × 16 = 64 channels are needed, and 60 are read"),
        ("x: {shape: [N, 30, 4, 4]}, b: {shape: [N, 4]}", "{roi_pool: 7, stride: 8, from: [x, b]}", "N × boxes × 4"),
        (
            "x: {shape: [N, 30, 4, 4]}, b: {shape: [N, P, 4]}",
            "{roi_align: 7, strides: [8, 16], from: [x, b]}",
            "2 strides are given for 1 maps",
        ),
        (
            "x: {shape: [N, 3, 4, 4]}, y: {shape: [N, 3, 2, 2]}, b: {shape: [N, P, 4]}",
            "{roi_align: 7, strides: [8, 32], from: [x, y, b]}",
            "each twice the one before",
        ),
        (
            "x: {shape: [N, 3, 4, 4]}, y: {shape: [N, 5, 2, 2]}, b: {shape: [N, P, 4]}",
            "{roi_align: 7, strides: [8, 16], from: [x, y, b]}",
            "3 and 5 channels",
        ),
        ("x: {shape: [N, 3]}, y: {shape: [N, 8, 4]}", "{unfold_batch: [x, y]}", "N rows are not those of N × 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(inputs: str, layer: str, words: str) -> None:
    assert words in refusal_of(inputs, f"layer: {layer}")


LEVELS = (
    "c3: {conv: 30, kernel: 3, stride: 8, padding: 1}",
    "c4: {conv: 30, kernel: 3, stride: 2, padding: 1}",
    "c5: {conv: 30, kernel: 3, stride: 2, padding: 1}",
)


@pytest.mark.parametrize(
    "layer",
    [
        "{yolo: 1, anchors: [[1, 2], [3, 4], [5, 6], [7, 8], [9, 9]], stride: 16, from: c5}",
        "{roi_pool: 7, stride: 16, from: [c5, boxes]}",
        "{roi_align: 7, strides: [16], from: [c5, boxes]}",
    ],
)
def test_a_head_is_held_to_the_stride_of_its_level(layer: str) -> None:
    inputs = "image: {shape: [N, 3, 128, 128]}, boxes: {shape: [N, 9, 4]}"
    words = refusal_of(inputs, LEVELS[0].replace("}", ", from: image}"), *LEVELS[1:], f"layer: {layer}")
    assert "`c5` has stride 32 and is read as a level of stride 16" in words
    assert "read `c4`" in words
