"""The metadata contract: what is read, and that what is broken is an error that names its key."""

import json
from pathlib import Path

import pytest

from runtime.errors import ModelError
from runtime.metadata import ImagePreprocess, Metadata
from runtime.session import Session
from tests.runtime.conftest import LABELS, PREPROCESS, SaveModel


def test_all_keys_are_read(classifier: Path) -> None:
    metadata = Session(classifier, "cpu").metadata
    assert metadata.spec == "name: tiny\n"
    assert metadata.args == {"classes": 3}
    assert metadata.labels == tuple(LABELS)
    assert metadata.preprocess == {"image": ImagePreprocess(1, (4, 4), "bilinear", 1 / 255, (0.5,), (0.5,))}
    assert metadata.postprocess == {"fc": "softmax"}


def test_all_keys_are_optional(save_classifier: SaveModel) -> None:
    assert Session(save_classifier(metadata={}), "cpu").metadata == Metadata()


def test_other_exporters_keys_are_left_alone(save_classifier: SaveModel) -> None:
    assert Session(save_classifier(metadata={"author": "{", "netspec.version": "9"}), "cpu").metadata == Metadata()


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
        Session(save_classifier(metadata=postprocess | {key: value}), "cpu")
    assert key in caught.value.message
    assert complaint in caught.value.message
    assert "model.onnx" in caught.value.message
