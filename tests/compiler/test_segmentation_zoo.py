"""Networks for segmentation: the figures that their papers give, and both engines at several sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import netspec
from compiler.export import export
from compiler.module import build, submodule
from compiler.verify import TOLERANCE, agrees, compare

SMALL_FCN = {"classes": 5, "width": 4, "dense": 16}
SMALL_UNET = {"classes": 3, "width": 4, "depth": 2}


@pytest.mark.parametrize(("name", "offsets"), [("fcn32s", [19]), ("fcn16s", [5, 27]), ("fcn8s", [5, 9, 31])])
def test_fcn_crops_where_the_published_nets_do(name: str, offsets: list[int]) -> None:
    """The `offset` of the crop layers in the authors' own definitions of these nets."""
    network = netspec.load(name)
    crops = [layer["arguments"]["offset"] for _, layer in network.layers() if layer["op"].kind == "crop_like"]
    assert crops == offsets


@pytest.mark.parametrize("size", ["1x3x1x1", "1x3x17x300", "2x3x500x333"])
@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
def test_fcn_gives_a_score_for_every_pixel_of_an_image_of_any_size(name: str, size: str) -> None:
    network = netspec.load(name, inputs=[f"image={size}"])
    batch, _, height, width = size.split("x")
    assert network.concrete(network.layer("out")["output"].shape)[1:] == (21, int(height), int(width)), batch


def test_what_fcn_has_learnt_to_enlarge_begins_as_bilinear_interpolation() -> None:
    """Long et al. 2015, section 3.3: away from the rim it is what PyTorch's own interpolation gives."""
    module = build(netspec.load("fcn32s", **SMALL_FCN)).eval()
    scores = torch.randn(1, 5, 7, 6)
    with torch.inference_mode():
        given = submodule(module, "up")(scores)[:, :, 16:-16, 16:-16]
    wanted = torch.nn.functional.interpolate(scores, scale_factor=32, mode="bilinear")
    assert torch.allclose(given[:, :, 16:-16, 16:-16], wanted[:, :, 16:-16, 16:-16], atol=1e-5)


def test_unet_is_the_papers() -> None:
    """Ronneberger et al. 2015, figure 1: 572 × 572 become 388 × 388, with 28 × 28 × 1024 at the bottom."""
    network = netspec.load("unet_paper")
    shapes = {name: network.concrete(network.layer(name)["output"].shape)[1:] for name in ("level4.convs.relu2", "out")}
    assert shapes == {"level4.convs.relu2": (1024, 28, 28), "out": (2, 388, 388)}
    assert network.depth() == 23


@pytest.mark.parametrize(("depth", "multiple"), [(1, 2), (2, 4), (4, 16), (6, 64)])
def test_unet_works_at_every_size_that_can_be_halved_as_often(depth: int, multiple: int) -> None:
    network = netspec.load("unet", depth=depth, width=4)
    needs = [str(need) for need in network.needs()]
    assert any(f"`H` is a multiple of {multiple} " in need for need in needs), needs


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fcn32s", SMALL_FCN),
        ("fcn16s", SMALL_FCN),
        ("fcn8s", SMALL_FCN),
        ("fcn_resnet50", {"classes": 3, "depths": [1, 1, 1, 1]}),
        ("unet", SMALL_UNET),
        ("unet_paper", {**SMALL_UNET, "normalised": True}),
    ],
)
def test_both_engines_agree_at_two_sizes(name: str, arguments: dict[str, object], tmp_path: Path) -> None:
    size = 64 if name.startswith("unet") else 40
    network = netspec.load(name, inputs=[f"image=1x3x{size}x{size}"], **arguments)
    module = build(network).eval()
    export(network, module, tmp_path / "model.onnx")
    results = compare(network, module, tmp_path / "model.onnx")
    assert len({shape for result in results for shape in result.shapes.values()}) == 2
    assert agrees(results, TOLERANCE)
