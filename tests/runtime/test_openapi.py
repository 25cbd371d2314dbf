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

from runtime.server.rest.openapi import document
from tests.runtime.conftest import save
from tests.runtime.rest_server import Served

# That a model is not there, and what it takes, is not for the schema to say: a request of the right form may be wrong.
EXCLUDED = [positive_data_acceptance]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("repository")
    # So large that no body of JSON happens to be right as a raw request, which asks for nothing but the size.
    tensors = [[(name, TensorProto.FLOAT, ["n", 10_007])] for name in ("x", "y")]
    save(root / "m" / "1" / "model.onnx", [helper.make_node("Identity", ["x"], ["y"])], *tensors)
    served = Served(root)
    with served.listening() as listening:
        yield f"http://{listening}"
    served.close()


THERE = {"model": "m", "version": "1"}
SCHEMA = schemathesis.openapi.from_dict(document({}))


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
def test_the_server_does_what_its_document_says(case: Any, address: str) -> None:
    # Inference, and half of what else is asked of a model, is asked of the one that is there.
    if case.operation.path.endswith("/infer") or len(case.path_parameters.get("model", "")) % 2:
        case.path_parameters |= {name: THERE[name] for name in THERE.keys() & case.path_parameters.keys()}
    case.call_and_validate(base_url=address, excluded_checks=EXCLUDED)


def test_the_document_that_is_served_is_valid(address: str) -> None:
    found = httpx.get(f"{address}/openapi.json").json()
    assert found == json.loads(json.dumps(document({})))
    SCHEMA.validate()
