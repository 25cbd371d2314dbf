"""The OpenAPI document: that it is one, and that the server does what it says, as schemathesis finds."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from onnx import TensorProto, helper
from schemathesis.specs.openapi.checks import positive_data_acceptance

from runtime.server.front import other_paths
from runtime.server.rest.image_body import IMAGE_TYPES
from runtime.server.rest.openapi import document
from tests.runtime.conftest import PREPROCESS, save
from tests.runtime.served import serving

# That a model is not there, and what it takes, is not for the schema to say: a request of the right form may be wrong.
EXCLUDED = [positive_data_acceptance]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole server, with a model of tensors and one of images."""
    root = tmp_path_factory.mktemp("repository")
    # So large that no body of JSON happens to be right as a raw request, which asks for nothing but the size.
    tensors = [[(name, TensorProto.FLOAT, ["n", 10_007])] for name in ("x", "y")]
    save(root / "m" / "1" / "model.onnx", [helper.make_node("Identity", ["x"], ["y"])], *tensors)
    image, fc = ("image", TensorProto.FLOAT, ["n", 1, 4, 4]), ("fc", TensorProto.FLOAT, ["n", 16])
    flatten = helper.make_node("Flatten", ["image"], ["fc"])
    metadata = {"netspec.preprocess": json.dumps(PREPROCESS), "netspec.postprocess": json.dumps({"fc": "softmax"})}
    save(root / "digits" / "1" / "model.onnx", [flatten], [image], [fc], metadata=metadata)
    with serving("--repository", root) as served:
        yield served.url


schemathesis.serializer.alias(sorted(IMAGE_TYPES), "application/octet-stream")
THERE = {"model": "m", "version": "1"}
SCHEMA = schemathesis.openapi.from_dict(document(other_paths()))


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
def test_the_server_does_what_its_document_says(case: Any, address: str) -> None:
    # What has a body, and half of what else is asked of a model, is asked of one that is there.
    if case.method == "POST" or len(case.path_parameters.get("model", "")) % 2:
        case.path_parameters |= {name: THERE[name] for name in THERE.keys() & case.path_parameters.keys()}
    if case.operation.path.startswith("/v1/predict"):
        case.path_parameters["model"] = "digits"
    case.call_and_validate(base_url=address, excluded_checks=EXCLUDED)


def test_the_document_that_is_served_is_valid(address: str) -> None:
    found = httpx.get(f"{address}/openapi.json").json()
    assert found == json.loads(json.dumps(document(other_paths())))
    SCHEMA.validate()
