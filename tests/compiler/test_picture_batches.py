"""Batches of images with boxes and masks, as a network reads them: the served form's preparation, and truth with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from compiler.batches import Data
from compiler.data import load_data
from compiler.datasets.batching import NetworkInput
from compiler.datasets.coco import write_annotations
from compiler.datasets.scenes import digit_scenes
from compiler.detection.criterion import Target
from compiler.errors import CompilerError
from compiler.module import build
from netspec import load
from netspec.data_choices import Scenes
from netspec.deployed import deployed
from netspec.network import Network


def spec(
    folder: Path, data: str, preprocess: str, size: str = "64, 64", classes: int = 2, channels: int = 3, train: str = ""
) -> Network:
    """A network that has the outputs of RetinaNet; `size` may be free, `H, W`."""
    free = ", sizes: {H: 64, W: 64}" if "H" in size else ""
    (folder / "net.yaml").write_text(f"""
netspec: 1
inputs: {{image: {{shape: [N, {channels}, {size}]{free}}}}}
net:
  map: {{conv: 4, kernel: 8, stride: 8}}
  scores: {{net: {{conv: {{conv: {classes}, kernel: 1}}, rows: {{per_box: {classes}}}}}, from: map}}
  deltas: {{net: {{conv: {{conv: 4, kernel: 1}}, rows: {{per_box: 4}}}}, from: map}}
  anchors: {{anchors: [32], ratios: [1], strides: [8], from: map}}
outputs: {{scores: scores, deltas: deltas, anchors: anchors}}
train: {{data: {data}, loss: retinanet{train}}}
deploy: {{net: {{sure: {{sigmoid: , from: scores}}}}, outputs: sure, preprocess: {preprocess}}}
""")
    return load(folder / "net.yaml")


def data_of(network: Network, folder: Path) -> Data:
    return load_data(network, network.sections["train"].data, folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images, 40 × 20 with a box and 16 × 32 without one, and a part of theirs that is held out."""
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (20, 40), "b": (32, 16)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    entries = [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 20},
        {"id": 9, "file_name": "b.png", "width": 16, "height": 32},
    ]
    box = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [4, 5, 20, 10], "iscrowd": 0}
    write_annotations(tmp_path / "a.json", entries, [box], ["cat", "dog"])
    return tmp_path


def batch_of(network: Network, folder: Path) -> tuple[Tensor, tuple[Target, ...]]:
    """Both images, with what is to be found in them."""
    split = data_of(network, folder).test
    batch = split.batch(torch.arange(len(split)))
    assert not isinstance(batch.targets, Tensor)
    return batch.inputs[0], batch.targets


TEST = "{coco: a.json, test: a.json}"


@pytest.mark.parametrize(
    ("preprocess", "box"),
    [
        # 64/40 = 1.6 along x, 64/20 = 3.2 along y
        ("{fit: stretch}", [6.4, 16, 38.4, 48]),
        # 1.6 along both; 32 rows of 64 are the image's, 16 above it
        ("{fit: letterbox}", [6.4, 16 + 8, 38.4, 16 + 24]),
    ],
)
def test_boxes_go_with_their_image_into_the_input(preprocess: str, box: list[float], images: Path) -> None:
    inputs, (first, second) = batch_of(spec(images, TEST, preprocess), images)
    assert inputs.shape == (2, 3, 64, 64)
    assert torch.allclose(first.boxes, torch.tensor([box]))
    assert first.labels.tolist() == [1]
    assert first.ignore.tolist() == [False]
    assert second.boxes.shape == (0, 4)


def test_images_of_several_sizes_are_filled_up_to_the_largest(images: Path) -> None:
    """The shorter side becomes 40: 40 × 80, and 80 × 40; to a multiple of 32, 64 × 96 and 96 × 64."""
    network = spec(images, TEST, "{fit: shortest, shortest: 40, longest: 200, multiple: 32}", "H, W")
    inputs, (first, _) = batch_of(network, images)
    assert inputs.shape == (2, 3, 96, 96)
    assert torch.allclose(first.boxes, torch.tensor([[8.0, 10, 48, 30]]))
    assert (inputs[0, :, 40:] == 0).all()
    assert (inputs[0, :, :, 80:] == 0).all()
    assert (inputs[1, :, 80:] == 0).all()
    assert (inputs[0, :, :40, :80] != 0).any(0).float().mean() > 0.99


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_the_served_form_prepares_images_in_the_same_way(fit: str, images: Path) -> None:
    """The exported network, given pixels, computes what the trained one does, given a batch."""
    network = spec(images, TEST, f"{{fit: {fit}, mean: [0.1, 0.2, 0.3], std: 0.5}}")
    inputs, _ = batch_of(network, images)
    served = build(deployed(network), 0).eval()
    trained = build(network, 0).eval()
    pixels = torch.from_numpy(np.array(Image.open(images / "b.png")))[None]
    with torch.inference_mode():
        scores = torch.sigmoid(trained(inputs[1:])[0])
        assert torch.allclose(served(pixels), scores, atol=1e-6)
        assert not torch.allclose(served(pixels), torch.sigmoid(trained(inputs[:1])[0]), atol=1e-3)


def test_colours_become_grey_for_a_network_of_one_channel(images: Path) -> None:
    inputs, _ = batch_of(spec(images, TEST, "{fit: letterbox}", "32, 16", channels=1), images)
    grey = np.asarray(Image.open(images / "b.png").convert("L"))
    assert torch.equal((inputs[1, 0] * 255).round().to(torch.uint8), torch.from_numpy(grey.copy()))


def test_places_lead_from_the_image_to_the_input(images: Path) -> None:
    split = data_of(spec(images, TEST, "{fit: letterbox}"), images).test
    batch = split.batch(torch.tensor([1, 0]))
    assert batch.names == ("b.png", "a.png")
    assert batch.places[1].scale == (1.6, 1.6)
    assert batch.places[1].offset == (0, 16)
    assert split.batch(torch.tensor([0]), epoch=0).places == ()


def test_an_epoch_varies_the_training_images_and_its_number_says_how(images: Path) -> None:
    network = spec(images, TEST, "{fit: stretch}", train=", augment: {flip: 0.5, scale: [0.5, 1.5], rotate: 10}")
    split = data_of(network, images).train
    as_it_is, *epochs = [split.batch(torch.tensor([0, 1]), epoch) for epoch in (None, 0, 1, 0)]
    assert not torch.equal(epochs[0].inputs[0], as_it_is.inputs[0])
    assert not torch.equal(epochs[0].inputs[0], epochs[1].inputs[0])
    assert torch.equal(epochs[0].inputs[0], epochs[2].inputs[0])
    # Whatever the batch is, a sample of an epoch is the same.
    assert torch.equal(split.batch(torch.tensor([1]), 0).inputs[0][0], epochs[0].inputs[0][1])


def test_a_flip_of_the_data_is_a_flip_of_the_batch(images: Path) -> None:
    network = spec(images, TEST, "{fit: stretch}", train=", augment: {flip: 1.0}")
    split = data_of(network, images).train
    plain, flipped = split.batch(torch.tensor([0])), split.batch(torch.tensor([0]), 0)
    assert torch.allclose(flipped.inputs[0], plain.inputs[0].flip(3), atol=1e-5)
    assert not isinstance(flipped.targets, Tensor)
    assert torch.allclose(flipped.targets[0].boxes, torch.tensor([[64 - 38.4, 16, 64 - 6.4, 48]]))


def test_classes_that_do_not_fit_the_network_are_told_with_both_numbers(images: Path) -> None:
    with pytest.raises(CompilerError) as caught:
        data_of(spec(images, TEST, "{fit: stretch}", classes=3), images)
    assert caught.value.message == "the data has 2 classes (cat, dog), the network's output `scores` is for 3"
    assert caught.value.help == "give the network 2 classes, or the data a list of 3"


def test_labels_in_another_order_than_the_classes_of_the_data_are_refused(images: Path) -> None:
    """Else every object would be served under another's name."""
    with pytest.raises(CompilerError) as caught:
        data_of(spec(images, TEST, "{fit: stretch}, labels: [dog, cat]"), images)
    assert caught.value.message == "class 0 of the data is `cat`, which is class 1 of `deploy.labels`"
    assert caught.value.help == "both need one order; the data's is cat, dog"
    for names in ("cat, dog", "Katze, Hund"):
        assert data_of(spec(images, TEST, f"{{fit: stretch}}, labels: [{names}]"), images).labels == ("cat", "dog")


# -- masks


def segmenter(folder: Path, data: str, classes: int = 3, preprocess: str = "{}") -> Network:
    (folder / "net.yaml").write_text(
        f"netspec: 1\ninputs: {{image: {{shape: [N, 3, 8, 8]}}}}\nnet: {{map: {{conv: {classes}, kernel: 1}}}}\n"
        f"train: {{data: {data}}}\ndeploy: {{preprocess: {preprocess}}}\n"
    )
    return load(folder / "net.yaml")


def write_pair(folder: Path, name: str, mask: np.ndarray) -> None:
    for place, pixels in (("images", np.zeros((*mask.shape, 3), dtype=np.uint8)), ("masks", mask)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / place / f"{name}.png")


def masks_of(network: Network, folder: Path) -> Tensor:
    split = data_of(network, folder).train
    targets = split.batch(torch.arange(len(split))).targets
    assert isinstance(targets, Tensor)
    return targets


def test_masks_are_laid_out_as_their_images_are(tmp_path: Path) -> None:
    """Each number of a 4 × 4 mask covers 2 × 2 pixels of the input; one half as high leaves rows to ignore."""
    mask = np.array([[0, 1, 2, 255], [1, 1, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2]], dtype=np.uint8)
    for name in "ab":
        write_pair(tmp_path / "whole", name, mask)
        write_pair(tmp_path / "half", name, mask[:2])
    whole = masks_of(segmenter(tmp_path, "{masks: whole}"), tmp_path)
    assert whole.dtype == torch.int64
    assert torch.equal(whole[0], torch.from_numpy(mask.repeat(2, 0).repeat(2, 1).astype(np.int64)))
    half = masks_of(segmenter(tmp_path, "{masks: half}", 3, "{fit: letterbox, pixels: true}"), tmp_path)
    assert (half[0, :2] == 255).all()
    assert (half[0, 6:] == 255).all()
    assert torch.equal(half[0, 2:6], whole[0, :4])


def test_a_class_that_the_network_has_not_is_told_with_its_file(tmp_path: Path) -> None:
    for name in "ab":
        write_pair(tmp_path / "data", name, np.full((4, 4), 3, dtype=np.uint8))
    with pytest.raises(CompilerError, match="has the number 3, and there are 3 classes, numbered from 0"):
        masks_of(segmenter(tmp_path, "{masks: data}"), tmp_path)


def test_scenes_are_for_detectors_and_for_masks(tmp_path: Path) -> None:
    scenes = "{scenes: 4, test: 2, size: 64}"
    network = segmenter(tmp_path, scenes, 11)
    data = data_of(network, tmp_path)
    assert data.labels == ("background", *"0123456789")
    assert masks_of(network, tmp_path).max() > 0
    detector = spec(tmp_path, scenes, "{fit: stretch}", classes=10)
    assert data_of(detector, tmp_path).labels == tuple("0123456789")
    _, targets = batch_of(detector, tmp_path)
    assert sum(len(target.boxes) for target in targets) > 0


def test_proposals_that_a_network_reads_and_the_data_has_not(tmp_path: Path) -> None:
    sample = digit_scenes(Scenes(count=1, test=1, size=32)).train.read(0)
    network = spec(tmp_path, "{scenes: 4, test: 2, size: 64}", "{fit: stretch}", classes=10)
    reader = NetworkInput(network, detects=True)
    reader.proposals, reader.order = 3, [True, False]
    with pytest.raises(CompilerError, match="reads proposals, and the data has none"):
        reader.check(sample)
    boxes = np.array([[0, 0, 16, 32], [4, 4, 8, 8]], dtype=np.float32)
    images, proposals = reader.batch([replace(sample, proposals=boxes)], varied=False).inputs
    assert images.shape == (1, 3, 64, 64)
    assert proposals.tolist() == [[[0, 0, 32, 64], [8, 8, 16, 16], [0, 0, 0, 0]]]
