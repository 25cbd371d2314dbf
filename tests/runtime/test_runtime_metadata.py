"""The metadata contract: what is read, and that what is broken is an error that names its key."""

import json
from pathlib import Path

import pytest
from onnx import TensorProto

from runtime.engine_options import EngineOptions
from runtime.errors import ModelError
from runtime.metadata import ImagePixels, ImagePreprocess, Metadata
from runtime.session import Session
from runtime.task import Detection, Segmentation
from tests.runtime.conftest import DETECTION, DETECTOR_METADATA, LABELS, PIXELS, PREPROCESS, SaveModel


def test_all_keys_are_read(classifier: Path) -> None:
    metadata = Session(classifier, EngineOptions("cpu")).metadata
    assert metadata.spec == "name: tiny\n"
    assert metadata.args == {"classes": 3}
    assert metadata.labels == tuple(LABELS)
    assert metadata.preprocess == {"image": ImagePreprocess(1, (4, 4), "bilinear", 1 / 255, (0.5,), (0.5,))}
    assert metadata.postprocess == {"fc": "softmax"}


def test_all_keys_are_optional(save_classifier: SaveModel) -> None:
    assert Session(save_classifier(metadata={}), EngineOptions("cpu")).metadata == Metadata()


def test_other_exporters_keys_are_left_alone(save_classifier: SaveModel) -> None:
    assert (
        Session(save_classifier(metadata={"author": "{", "netspec.version": "9"}), EngineOptions("cpu")).metadata
        == Metadata()
    )


def image_with(**changes: object) -> str:
    return json.dumps({"image": PREPROCESS["image"] | changes})


BROKEN = [
    ("netspec.args", "[1]", "is not a JSON object"),
    ("netspec.args", "{", "is not JSON"),
    ("netspec.labels", "zero, one", "is not JSON"),
    ("netspec.labels", '{"0": "zero"}', "is not a list of texts"),
    ("netspec.labels", "[0, 1, 2]", "is not a list of texts"),
    ("netspec.labels", '["zero", "one"]', "names 2 classes, but 'fc' has 3"),
    ("netspec.labels", "[" * 100_000, "is not JSON"),
    ("netspec.preprocess", "[]", "is not a JSON object"),
    ("netspec.preprocess", '{"picture": {}}', "is about 'picture', which is no input of the model"),
    ("netspec.preprocess", '{"image": 3}', "'image' is not an object"),
    ("netspec.preprocess", '{"image": {}}', "has channels other than 1 or 3"),
    ("netspec.preprocess", image_with(channels=4), "has channels other than 1 or 3"),
    ("netspec.preprocess", image_with(channels=True), "has channels other than 1 or 3"),
    ("netspec.preprocess", image_with(channels=3, mean=[0, 0, 0], std=[1, 1, 1]), "prepares [batch, 3, 4, 4]"),
    ("netspec.preprocess", image_with(size=[5, 4]), "prepares [batch, 1, 5, 4], but the input is"),
    ("netspec.preprocess", image_with(size=[0, 4]), "neither null nor [height, width]"),
    ("netspec.preprocess", image_with(size=4), "neither null nor [height, width]"),
    ("netspec.preprocess", image_with(resize="lanczos"), "has a resize other than nearest, bilinear, bicubic"),
    ("netspec.preprocess", image_with(resize=["nearest"]), "has a resize other than"),
    ("netspec.preprocess", image_with(scale="big"), "has a scale that is no number"),
    ("netspec.preprocess", image_with(scale=float("nan")), "has a scale that is no number"),
    ("netspec.preprocess", image_with(mean=[0.1, 0.2, 0.3]), "has a mean that is not a list of 1 number"),
    ("netspec.preprocess", image_with(size=[60000, 60000]), "[height, width] of 1 to 8192 pixels"),
    ("netspec.preprocess", image_with(std=[0.0]), "has a std of 0"),
    ("netspec.preprocess", image_with(std=[1e-60]), "has a std of 0"),
    ("netspec.preprocess", image_with(std=[1e-45]), "make pixels infinite in float32"),
    ("netspec.preprocess", image_with(scale=1e38), "make pixels infinite in float32"),
    ("netspec.preprocess", image_with(crop=3), "has the unknown field 'crop'"),
    ("netspec.postprocess", '"softmax"', "is not a JSON object"),
    ("netspec.postprocess", '{"scores": "softmax"}', "is about 'scores', which is no output of the model"),
    ("netspec.postprocess", '{"fc": "argmax"}', "is other than softmax or none"),
    ("netspec.postprocess", '{"fc": ["softmax"]}', "is other than softmax or none"),
]


@pytest.mark.parametrize(("key", "value", "complaint"), BROKEN)
def test_broken_metadata_names_its_key(save_classifier: SaveModel, key: str, value: str, complaint: str) -> None:
    postprocess = {"netspec.postprocess": '{"fc": "softmax"}'}
    with pytest.raises(ModelError) as caught:
        Session(save_classifier(metadata=postprocess | {key: value}), EngineOptions("cpu"))
    assert key in caught.value.message
    assert complaint in caught.value.message
    assert "model.onnx" in caught.value.message


def test_the_contract_of_pixels_and_boxes_is_read(detector: Path, segmenter: Path) -> None:
    metadata = Session(detector, EngineOptions("cpu")).metadata
    assert metadata.preprocess == {"image": ImagePixels(3)}
    assert metadata.task == Detection("boxes", "scores", "labels", "counts")
    assert Session(segmenter, EngineOptions("cpu")).metadata.task == Segmentation("mask")


@pytest.mark.parametrize("element", [TensorProto.INT64, TensorProto.UINT8])
def test_masks_of_both_types(save_segmenter: SaveModel, element: int) -> None:
    assert Session(save_segmenter(element=element), EngineOptions("cpu")).metadata.task == Segmentation("mask")


def task_with(**changes: object) -> str:
    return json.dumps(DETECTION | changes)


def pixels_with(**changes: object) -> str:
    return json.dumps({"image": PIXELS["image"] | changes})


BROKEN_OF_DETECTORS = [
    ("netspec.task", "detection", "is not JSON"),
    ("netspec.task", "[]", "is not a JSON object"),
    ("netspec.task", "{}", "has a kind other than detection or segmentation"),
    ("netspec.task", task_with(kind="heatmap"), "has a kind other than detection or segmentation"),
    ("netspec.task", task_with(kind=["detection"]), "has a kind other than"),
    ("netspec.task", task_with(masks="masks"), "has the unknown field 'masks'; a newer netspec may have written it"),
    ("netspec.task", task_with(boxes=None), "names no output as its boxes"),
    ("netspec.task", task_with(boxes=["boxes"]), "names no output as its boxes"),
    ("netspec.task", '{"kind": "detection", "boxes": "boxes"}', "names no output as its scores"),
    ("netspec.task", task_with(counts="number"), "has 'number' as its counts, which is no output of the model"),
    ("netspec.task", task_with(boxes="image"), "has 'image' as its boxes, which is no output of the model"),
    ("netspec.task", task_with(boxes="scores"), "as its boxes, float32 [batch, objects, 4]; the output is float32"),
    ("netspec.task", task_with(scores="labels"), "as its scores, float32 [batch, 3]; the output is int64 [batch, 3]"),
    ("netspec.task", task_with(labels="counts"), "as its labels, int64 [batch, 3]; the output is int64 [batch]"),
    ("netspec.task", '{"kind": "segmentation", "mask": "boxes"}', "int64 [batch, height, width] or uint8 [batch,"),
    ("netspec.preprocess", pixels_with(pixels=False), "has pixels other than true"),
    ("netspec.preprocess", pixels_with(pixels=1), "has pixels other than true"),
    ("netspec.preprocess", pixels_with(channels=4), "has channels other than 1 or 3"),
    ("netspec.preprocess", pixels_with(mean=[0.0]), "has the unknown field 'mean'"),
    ("netspec.preprocess", pixels_with(channels=1), "gives pixels, uint8 [batch, height, width, 1], but the input is"),
    ("netspec.preprocess", json.dumps({"image": {"channels": 3}}), "prepares float32, but the input is uint8"),
]


@pytest.mark.parametrize(("key", "value", "complaint"), BROKEN_OF_DETECTORS)
def test_broken_metadata_of_detectors_names_its_key(
    save_detector: SaveModel, key: str, value: str, complaint: str
) -> None:
    with pytest.raises(ModelError) as caught:
        Session(save_detector(metadata=DETECTOR_METADATA | {key: value}), EngineOptions("cpu"))
    assert key in caught.value.message
    assert complaint in caught.value.message


def test_pixels_are_for_inputs_of_bytes(save_classifier: SaveModel) -> None:
    with pytest.raises(ModelError, match=r"gives pixels, uint8 \[batch, height, width, 3\], but the input is float32"):
        Session(save_classifier(metadata={"netspec.preprocess": json.dumps(PIXELS)}), EngineOptions("cpu"))
