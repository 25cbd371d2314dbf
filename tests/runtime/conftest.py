"""Tiny models, written by hand with ``onnx.helper``, for the tests of the runtime."""

import json
import shutil
import subprocess
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

PIXELS = {"image": {"pixels": True, "channels": 3}}
DETECTION = {"kind": "detection", "boxes": "boxes", "scores": "scores", "labels": "labels", "counts": "counts"}
COLOURS = ["red", "green", "blue"]
DETECTOR_METADATA = {
    "netspec.labels": json.dumps(COLOURS),
    "netspec.preprocess": json.dumps(PIXELS),
    "netspec.task": json.dumps(DETECTION),
}
MASKS = ["background", *COLOURS]
SEGMENTER_METADATA = {
    "netspec.labels": json.dumps(MASKS),
    "netspec.preprocess": json.dumps(PIXELS),
    "netspec.task": json.dumps({"kind": "segmentation", "mask": "mask"}),
}

Signature = tuple[str, int, Sequence[int | str | None] | None]
SaveModel = Callable[..., Path]


def classifier_weights() -> tuple[np.ndarray, np.ndarray]:
    """The weights [16, 3] and the bias [3] of the classifier."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(16, 3)).astype(np.float32), generator.normal(size=3).astype(np.float32)


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Sequence[Signature],
    outputs: Sequence[Signature],
    weights: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str] | None = None,
    opset: int = 20,
    ir: int = 10,
) -> Path:
    """Saves a model of some nodes, with metadata."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(*signature) for signature in inputs],
        [helper.make_tensor_value_info(*signature) for signature in outputs],
        [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])
    helper.set_model_props(model, metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def save_model(tmp_path: Path) -> SaveModel:
    """Saves a model of some nodes, with metadata, in the test's folder."""

    def save_here(*parts: Any, name: str = "model.onnx", **more: Any) -> Path:
        return save(tmp_path / name, *parts, **more)

    return save_here


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


def edge(channels: str, axis: int, last: int, name: str) -> list[NodeProto]:
    """The first or last place along an axis (1 height, 2 width) where a channel is bright: N × C float32.

    `channels` is N × H × W × C, 1 where it is bright and 0 elsewhere.
    """
    other = 3 - axis
    return [
        helper.make_node("ReduceMax", [channels, f"axis{other}"], [f"{name}_line"], keepdims=0),
        helper.make_node("ArgMax", [f"{name}_line"], [f"{name}_place"], axis=1, keepdims=0, select_last_index=last),
        helper.make_node("Cast", [f"{name}_place"], [name if not last else f"{name}_at"], to=TensorProto.FLOAT),
        *([helper.make_node("Add", [f"{name}_at", "one"], [name])] if last else []),
    ]


@pytest.fixture
def save_detector(save_model: SaveModel) -> SaveModel:
    """Saves a detector of bright red, green and blue: image [batch, height, width, 3] → boxes, scores, labels, counts.

    A channel whose greatest value is over 127 is an object: its box holds all pixels over 127, its score is the
    greatest value / 255. There is room for 3 objects; rows behind the last are zeros with label −1.
    """

    def save(
        batch: int | str = "batch",
        sides: Sequence[int | str] = ("height", "width"),
        metadata: dict[str, str] = DETECTOR_METADATA,
        **other: Any,
    ) -> Path:
        nodes = [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Greater", ["pixels", "threshold"], ["is_bright"]),
            helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
            *edge("bright", 2, 0, "left"),
            *edge("bright", 1, 0, "top"),
            *edge("bright", 2, 1, "right"),
            *edge("bright", 1, 1, "bottom"),
            *(helper.make_node("Unsqueeze", [side, "axis2"], [f"{side}_2"]) for side in SIDES),
            helper.make_node("Concat", [f"{side}_2" for side in SIDES], ["every_box"], axis=2),
            helper.make_node("ReduceMax", ["pixels", "axes12"], ["brightest"], keepdims=0),
            helper.make_node("Div", ["brightest", "white"], ["every_score"]),
            helper.make_node("TopK", ["every_score", "three"], ["sorted", "order"], axis=1),
            helper.make_node("Greater", ["sorted", "half"], ["is_found"]),
            helper.make_node("Cast", ["is_found"], ["found"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["is_found"], ["found_number"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["found_number", "axis1"], ["counts"], keepdims=0),
            helper.make_node("Mul", ["sorted", "found"], ["scores"]),
            helper.make_node("Where", ["is_found", "order", "nothing"], ["labels"]),
            helper.make_node("Unsqueeze", ["order", "axis2"], ["order_2"]),
            helper.make_node("Expand", ["order_2", "four_sides"], ["order_4"]),
            helper.make_node("GatherElements", ["every_box", "order_4"], ["sorted_boxes"], axis=1),
            helper.make_node("Unsqueeze", ["found", "axis2"], ["found_2"]),
            helper.make_node("Mul", ["sorted_boxes", "found_2"], ["boxes"]),
        ]
        return save_model(
            nodes,
            [("image", TensorProto.UINT8, [batch, *sides, 3])],
            [
                ("boxes", TensorProto.FLOAT, [batch, 3, 4]),
                ("scores", TensorProto.FLOAT, [batch, 3]),
                ("labels", TensorProto.INT64, [batch, 3]),
                ("counts", TensorProto.INT64, [batch]),
            ],
            {
                "threshold": np.float32(127),
                "white": np.float32(255),
                "half": np.float32(0.5),
                "one": np.float32(1),
                "three": np.array([3]),
                "axis1": np.array([1]),
                "axis2": np.array([2]),
                "axes12": np.array([1, 2]),
                "nothing": np.array(-1),
                "four_sides": np.array([1, 1, 4]),
            },
            metadata,
            **other,
        )

    return save


SIDES = ("left", "top", "right", "bottom")


@pytest.fixture
def detector(save_detector: SaveModel) -> Path:
    """The detector for images of any size."""
    return save_detector(name="detector.onnx")


@pytest.fixture
def save_segmenter(save_model: SaveModel) -> SaveModel:
    """Saves a model that tells each pixel's colour: image [batch, height, width, 3] → mask, 0 where all is dark."""

    def save(metadata: dict[str, str] = SEGMENTER_METADATA, element: int = TensorProto.INT64, **other: Any) -> Path:
        nodes = [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["pixels", "axis3"], ["brightest"], keepdims=0),
            helper.make_node("Greater", ["brightest", "threshold"], ["is_bright"]),
            helper.make_node("ArgMax", ["pixels"], ["channel"], axis=3, keepdims=0),
            helper.make_node("Add", ["channel", "one"], ["colour"]),
            helper.make_node("Where", ["is_bright", "colour", "zero"], ["number"]),
            helper.make_node("Cast", ["number"], ["mask"], to=element),
        ]
        sides = ["batch", "height", "width"]
        weights = {
            "axis3": np.array([3]),
            "threshold": np.float32(127),
            "one": np.array(1),
            "zero": np.array(0),
        }
        inputs = [("image", TensorProto.UINT8, [*sides, 3])]
        return save_model(nodes, inputs, [("mask", element, sides)], weights, metadata, **other)

    return save


@pytest.fixture
def segmenter(save_segmenter: SaveModel) -> Path:
    """The model that tells each pixel's colour, for images of any size."""
    return save_segmenter(name="segmenter.onnx")


@pytest.fixture
def save_region_detector(save_model: SaveModel) -> SaveModel:
    """Saves a model that finds something in every region that has a width; the regions are [batch, P, 4]."""

    def save(room: int | str = "regions", **other: Any) -> Path:
        nodes = [
            helper.make_node("Identity", ["proposals"], ["boxes"]),
            helper.make_node("Split", ["proposals"], list(SIDES), axis=2, num_outputs=4),
            helper.make_node("Greater", ["right", "left"], ["is_wide_2"]),
            helper.make_node("Squeeze", ["is_wide_2", "axis2"], ["is_wide"]),
            helper.make_node("Cast", ["is_wide"], ["scores"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["is_wide"], ["wide_number"], to=TensorProto.INT64),
            helper.make_node("Sub", ["wide_number", "one"], ["labels"]),
            helper.make_node("ReduceSum", ["wide_number", "axis1"], ["counts"], keepdims=0),
        ]
        return save_model(
            nodes,
            [
                ("image", TensorProto.UINT8, ["batch", "height", "width", 3]),
                ("proposals", TensorProto.FLOAT, ["batch", room, 4]),
            ],
            [
                ("boxes", TensorProto.FLOAT, ["batch", room, 4]),
                ("scores", TensorProto.FLOAT, ["batch", room]),
                ("labels", TensorProto.INT64, ["batch", room]),
                ("counts", TensorProto.INT64, ["batch"]),
            ],
            {"one": np.array(1), "axis1": np.array([1]), "axis2": np.array([2])},
            DETECTOR_METADATA,
            **other,
        )

    return save


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates and keys of a server and a client, and another key, made by OpenSSL's own command."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made by the command openssl, which is not here")
    folder = tmp_path_factory.mktemp("pem")
    for name, subject in (("server", "/CN=localhost"), ("client", "/CN=client")):
        run = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        run += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", subject]
        run += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(run, cwd=folder, check=True, capture_output=True)
    locked = ["openssl", "pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key"]
    subprocess.run(locked, cwd=folder, check=True, capture_output=True)
    return folder
