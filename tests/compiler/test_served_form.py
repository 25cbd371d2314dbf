"""The served form: images prepared in the graph, layers of `deploy`, boxes and masks put back into the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from compiler.export import export
from compiler.lowering.imaging import MaskAtImage, MoveBoxes, PrepareImages
from compiler.module import build
from netspec import load
from netspec.cli.main import cli
from netspec.deployed import deployed
from netspec.ops.imaging import BoxesOfImage, BoxesOfInput, MaskOfImage, Prepare

FITS = {
    "stretch": "{fit: stretch, mean: [0.4, 0.5, 0.6], std: 0.25}",
    "nearest": "{fit: stretch, resize: nearest}",
    "letterbox": "{fit: letterbox, std: [0.2, 0.3, 0.4], fill: 0.447}",
    "shortest": "{fit: shortest, shortest: 40, longest: 70, multiple: 16, mean: 0.5}",
    "none": "{fit: none, mean: 0.5}",
}
SIZES = ((32, 48), (37, 91), (1, 1), (120, 3), (64, 64))


def spec(tmp_path: Path, preprocess: str) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(
        f"""
netspec: 1
inputs: {{image: {{shape: [N, 3, H, W], sizes: {{H: 32, W: 48}}}}}}
net:
  conv: {{conv: 5, kernel: 3, stride: 2, padding: 1}}
  scores: {{conv: 4, kernel: 1}}
deploy:
  preprocess: {preprocess}
  net: {{probabilities: {{softmax: 1, from: conv}}, again: {{relu: , from: scores}}}}
  outputs: {{scores: probabilities, again: again}}
""",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("fit", FITS)
def test_both_forms_give_the_same_at_every_size(fit: str, tmp_path: Path) -> None:
    network = load(spec(tmp_path, FITS[fit]))
    module = build(network).eval()
    export(network, module, tmp_path / "model.onnx")
    served = build(deployed(network), weights=module.state_dict()).eval()
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores", "again"]
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = served(torch.from_numpy(pixels))
        for ours, theirs in zip(session.run(None, {"image": pixels}), expected, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6)


def test_the_trained_network_is_without_the_served_layers(tmp_path: Path) -> None:
    network = load(spec(tmp_path, FITS["letterbox"]))
    assert list(network.outputs) == ["scores"]
    assert [path for path, _ in network.layers()] == ["conv", "scores"]
    form = deployed(network, prepared=True)
    assert form.inputs == ("image",)
    assert form.layer("image")["output"].dtype == "float32"
    assert form.parameters() == network.parameters() == 3 * 3 * 3 * 5 + 5 + 5 * 4 + 4


def test_the_served_module_has_the_tensors_of_the_trained_one(tmp_path: Path) -> None:
    """What a training step changes is seen at once by the module that judges it."""
    network = load(spec(tmp_path, FITS["none"]))
    module = build(network)
    judged = build(deployed(network, prepared=True), weights=module.state_dict()).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    scores, again = judged(torch.randn(1, 3, 8, 8))
    assert torch.allclose(scores, torch.full_like(scores, 1 / 5))  # softmax of five equal numbers
    assert not again.any()


def prepare(**arguments: Any) -> PrepareImages:
    return PrepareImages(Prepare(**{"mean": (0.0,), "std": (1.0,)} | arguments))


def test_a_letterbox_by_hand() -> None:
    """480 × 640 into 416 × 416: r = min(416/480, 416/640) = 0.65, so 312 × 416, with (416 − 312)/2 = 52 rows above."""
    image = torch.full((1, 480, 640, 1), 255, dtype=torch.uint8)
    x = prepare(fit="letterbox", height=416, width=416, fill=0.5)(image)
    assert x.shape == (1, 1, 416, 416)
    rows = x[0, 0, :, 0]
    assert torch.allclose(rows[:52], torch.tensor(0.5))
    assert torch.allclose(rows[52:364], torch.tensor(1.0))
    assert torch.allclose(rows[364:], torch.tensor(0.5))
    op = BoxesOfImage(fit="letterbox", height=416, width=416)
    boxes = MoveBoxes(op)(torch.tensor([[[65.0, 52.0, 130.0, 500.0], [0, 0, 0, 0]]]), image)
    # x: 65/0.65 = 100, 130/0.65 = 200; y: (52 − 52)/0.65 = 0, and 500 lies below the image's last row, 480
    assert torch.allclose(boxes, torch.tensor([[[100.0, 0.0, 200.0, 480.0], [0, 0, 0, 0]]]))


def test_the_shorter_side_by_hand() -> None:
    """256 × 320 becomes 800 × 1000, filled up to 800 × 1024.

    300 × 900 would be 800 × 2400, so its longer side counts: 444 × 1333, filled up to 448 × 1344.
    """
    op = {"fit": "shortest", "shortest": 800, "longest": 1333, "multiple": 32}
    x = prepare(**op, mean=(0.5,), std=(0.5,))(torch.zeros(1, 256, 320, 1, dtype=torch.uint8))
    assert x.shape == (1, 1, 800, 1024)
    assert torch.equal(x[..., :1000], torch.full((1, 1, 800, 1000), -1.0))
    assert not x[..., 1000:].any()
    assert prepare(**op)(torch.zeros(1, 300, 900, 1, dtype=torch.uint8)).shape == (1, 1, 448, 1344)


@pytest.mark.parametrize("size", [(37, 91), (200, 13), (64, 64)])
def test_resizing_is_that_of_pytorch(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (1, 50, 60, 3), dtype=torch.uint8)
    ours = prepare(height=size[0], width=size[1], mean=(0.0,) * 3, std=(1 / 255,) * 3)(image)
    theirs = functional.interpolate(image.permute(0, 3, 1, 2).float(), size, mode="bilinear")
    assert torch.allclose(ours, theirs, atol=0.02)  # of 255: a coordinate's last bit, times a step of the noise


ROUND_TRIPS = (
    {"fit": "letterbox", "height": 40, "width": 90},
    {"fit": "stretch", "height": 30, "width": 30},
    {"fit": "shortest", "shortest": 50, "longest": 80, "multiple": 8},
)


@pytest.mark.parametrize("fit", ROUND_TRIPS)
def test_boxes_go_to_the_input_and_back(fit: dict[str, Any]) -> None:
    image = torch.zeros(1, 61, 83, 3, dtype=torch.uint8)
    corners = torch.rand(1, 20, 2, 2).sort(dim=2).values * torch.tensor([83.0, 61.0])
    boxes = corners.flatten(2)
    there = MoveBoxes(BoxesOfInput(**fit))(boxes, image)
    assert torch.allclose(MoveBoxes(BoxesOfImage(**fit))(there, image), boxes, atol=1e-4)
    assert not torch.allclose(there, boxes, atol=1.0)


def test_a_mask_takes_the_nearest_class() -> None:
    """4 × 6 pixels in an input of 4 × 4 by letterbox: scaled to round(16/6) = 3 × 4 with no row above."""
    mask = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 0]]])
    found = MaskAtImage(MaskOfImage(fit="letterbox", height=4, width=4))(
        mask, torch.zeros(1, 4, 6, 3, dtype=torch.uint8)
    )
    # the column j of six is at (j + ½)·4/6: 0.33, 1, 1.67, 2.33, 3, 3.67
    # the row i of four at (i + ½)·3/4: 0.38, 1.13, 1.88, 2.63
    columns, rows = [0, 1, 1, 2, 3, 3], [0, 1, 1, 2]
    assert torch.equal(found[0], mask[0][rows][:, columns])


def test_the_export_command_writes_either_form(tmp_path: Path) -> None:
    path = spec(tmp_path, FITS["letterbox"])
    for options, inputs in (((), "tensor(uint8)"), (("--as-trained",), "tensor(float)")):
        file = tmp_path / "out.onnx"
        done = CliRunner().invoke(cli, ["export", str(path), "-o", str(file), "--verify", *options])
        assert done.exit_code == 0, done.output
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        assert [given.type for given in session.get_inputs()] == [inputs]


def test_verify_does_not_claim_to_have_compared_boxes_where_none_is_found(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("""
netspec: 1
inputs: {image: {shape: [N, 3, 32, 32]}}
net:
  map: {conv: 7, kernel: 8, stride: 8}
  head: {yolo: 2, anchors: [[8, 8]], stride: 8}
outputs: {raw: head.raw}
deploy:
  preprocess: {fit: stretch}
  net: {found: {nms: 0.5, score: 0.999, from: [head.boxes, head.scores]}}
  outputs: found
""")
    done = CliRunner().invoke(cli, ["export", str(path), "-o", str(tmp_path / "out.onnx"), "--verify"])
    assert done.exit_code == 0, done.output
    assert ", 0 boxes found" in done.output
    assert "nothing is found in random images: what is chosen among was compared, the choice was not" in done.output
