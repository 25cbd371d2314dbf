"""Tiny models, written by hand with ``onnx.helper``, for the tests of the runtime."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

LABELS = ["zero", "one", "two"]
PREPROCESS = {
    "image": {"channels": 1, "size": [4, 4], "resize": "bilinear", "scale": 1 / 255, "mean": [0.5], "std": [0.5]}
}
CLASSIFIER_METADATA = {
    "netspec.spec": "name: tiny\n",
    "netspec.args": json.dumps({"classes": 3}),
    "netspec.labels": json.dumps(LABELS),
    "netspec.preprocess": json.dumps(PREPROCESS),
    "netspec.postprocess": json.dumps({"fc": "softmax"}),
}

Signature = tuple[str, int, Sequence[int | str | None] | None]
SaveModel = Callable[..., Path]


def classifier_weights() -> tuple[np.ndarray, np.ndarray]:
    """The weights [16, 3] and the bias [3] of the classifier."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(16, 3)).astype(np.float32), generator.normal(size=3).astype(np.float32)


@pytest.fixture
def save_model(tmp_path: Path) -> SaveModel:
    """Saves a model of some nodes, with metadata, in the test's folder."""

    def save(
        nodes: Sequence[NodeProto],
        inputs: Sequence[Signature],
        outputs: Sequence[Signature],
        weights: dict[str, np.ndarray] | None = None,
        metadata: dict[str, str] | None = None,
        opset: int = 20,
        ir: int = 10,
        name: str = "model.onnx",
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "tiny",
            [helper.make_tensor_value_info(*signature) for signature in inputs],
            [helper.make_tensor_value_info(*signature) for signature in outputs],
            [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
        )
        model = helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])
        helper.set_model_props(model, metadata or {})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path

    return save


@pytest.fixture
def save_classifier(save_model: SaveModel) -> SaveModel:
    """Saves a linear classifier: image [batch, 1, 4, 4] → fc [batch, 3]."""

    def save(batch: int | str = "batch", metadata: dict[str, str] = CLASSIFIER_METADATA, **other: Any) -> Path:
        weight, bias = classifier_weights()
        nodes = [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["fc"]),
        ]
        return save_model(
            nodes,
            [("image", TensorProto.FLOAT, [batch, 1, 4, 4])],
            [("fc", TensorProto.FLOAT, [batch, 3])],
            {"weight": weight, "bias": bias},
            metadata,
            **other,
        )

    return save


@pytest.fixture
def classifier(save_classifier: SaveModel) -> Path:
    """The classifier with labels and preprocessing."""
    return save_classifier()


@pytest.fixture
def save_echo(save_model: SaveModel) -> SaveModel:
    """Saves a model that gives back its input: x [n, 2] → y [n, 2]."""

    def save(element: int = TensorProto.FLOAT, shape: Sequence[int | str | None] | None = ("n", 2)) -> Path:
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
        return save_model(nodes, [("x", element, shape)], [("y", element, shape)], name=f"echo{element}.onnx")

    return save


@pytest.fixture
def adder(save_model: SaveModel) -> Path:
    """A model of two inputs and two outputs: a, b [n, 2] → sum, double [n, 2]."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Add", ["a", "a"], ["double"])]
    inputs = [(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b")]
    outputs = [(name, TensorProto.FLOAT, ["n", 2]) for name in ("sum", "double")]
    return save_model(nodes, inputs, outputs, name="adder.onnx")


@pytest.fixture
def logarithm(save_model: SaveModel) -> Path:
    """A model whose output is infinite for 0 and NaN below: x [n] → y [n]."""
    nodes = [helper.make_node("Log", ["x"], ["y"])]
    signature = ["n"]
    return save_model(
        nodes, [("x", TensorProto.FLOAT, signature)], [("y", TensorProto.FLOAT, signature)], name="log.onnx"
    )


@pytest.fixture
def picker(save_model: SaveModel) -> Path:
    """A model that fails on some values of the right type and shape: index [n] → row [n, 2], of 3 rows."""
    nodes = [helper.make_node("Gather", ["table", "index"], ["row"])]
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    return save_model(
        nodes,
        [("index", TensorProto.INT64, ["n"])],
        [("row", TensorProto.FLOAT, ["n", 2])],
        {"table": table},
        name="picker.onnx",
    )
