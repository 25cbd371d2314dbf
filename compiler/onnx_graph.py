"""A checked graph as an ONNX model, emitted node by node with the spec's names."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from compiler.errors import CompilerError
from compiler.lowering.base import lowering_of
from netspec import __version__
from netspec.deployed import is_pixels, served_task
from netspec.network import Network, key_of
from netspec.ops.base import Part
from netspec.outputs import is_image
from netspec.tensor import Shape, TensorType

# What ONNX Runtime 1.18 and everything since accepts; the onnx package's own newer defaults are refused by runtimes.
IR_VERSION = 10
OPSET = 20

_DTYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}
Array = NDArray[Any]
Attributes = Mapping[str, Any]


def value_names(network: Network) -> dict[str, str]:
    """What the results of layers are called that aren't called as the layer: as the output that they are.

    The name of an output is no other result's.
    """
    renamed = {name: f"{name}/value" for name, node in network.outputs.items() if name != node}
    for name, node in reversed(network.outputs.items()):
        if node not in network.inputs:
            renamed[node] = node if network.outputs.get(node) == node else name
    return renamed


class GraphWriter:
    """Collects the nodes and initializers of a graph. Nothing is worked out twice, and no constant is there twice."""

    def __init__(self, network: Network, weights: Mapping[str, Array]) -> None:
        self.network = network
        self.weights = weights
        self.renamed = value_names(network)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.constants: dict[Hashable, str] = {}
        self.found: dict[Hashable, list[str]] = {}
        self.sizes: dict[Shape, str] = {}

    def value(self, path: str) -> str:
        """What the result of a layer is called: its path, unless an output asks for another name."""
        return self.renamed.get(path, path)

    def add(self, op_type: str, name: str, inputs: Sequence[str], outputs: Sequence[str], given: Attributes) -> None:
        """A node."""
        node = onnx.NodeProto(op_type=op_type, name=name, input=inputs, output=outputs)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(node)

    def once(self, op_type: str, inputs: Sequence[str], outputs: list[str], given: Attributes) -> list[str]:
        """What a node of this kind gives of these inputs: `outputs`, or what an earlier one is called that does it."""
        key = op_type, tuple(inputs), str(given), len(outputs)
        if key not in self.found:
            self.found[key] = outputs
            self.add(op_type, outputs[0], inputs, outputs, given)
        return self.found[key]

    def constant(self, name: str, values: Array) -> str:
        """An initializer with fixed values."""
        key = values.dtype.str, values.shape, values.tobytes()
        if key not in self.constants:
            self.constants[key] = name
            self.initializers[name] = values
        return self.constants[key]

    def layer(self, path: str) -> None:
        """Emits the nodes of a layer.

        Raises:
            CompilerError: its op has no ONNX lowering.
        """
        layer = self.network.layer(path)
        op = layer["op"]
        assert op is not None
        if isinstance(op, Part):
            return  # a result of the layer before, which has emitted it
        types = tuple(self.network.layer(node)["output"] for node in layer["inputs"])
        try:
            inputs = tuple(self.value(node) for node in layer["inputs"])
            lowering_of(op).onnx(op, NodeWriter(self, path, layer["module"], inputs, types))
        except LookupError as error:
            raise CompilerError(str(error)) from None


class NodeWriter:
    """What one layer's lowering writes with."""

    def __init__(
        self, graph: GraphWriter, path: str, module: str, inputs: tuple[str, ...], types: tuple[TensorType, ...]
    ) -> None:
        self.graph = graph
        self.path = path
        self.module = module
        self.inputs = inputs
        self.types = types

    def weight(self, name: str) -> str:
        key = key_of(self.module, name)
        initializer = key if name else f"{key}/tensor"  # the key itself is what the layer's result is called
        self.graph.initializers[initializer] = self.graph.weights[key]
        return initializer

    def turned(self, name: str) -> str:
        key = key_of(self.module, name)
        self.graph.initializers[f"{key}/turned"] = self.graph.weights[key].T
        return f"{key}/turned"

    def constant(self, name: str, values: Sequence[int] | Sequence[float]) -> str:
        whole = all(isinstance(value, int) for value in values)
        return self.array(name, np.array(values, dtype=np.int64 if whole else np.float32))

    def scalar(self, name: str, value: float) -> str:
        return self.array(name, np.array(value, dtype=np.float32))

    def whole(self, name: str, value: int) -> str:
        return self.array(name, np.array(value, dtype=np.int64))

    def array(self, name: str, values: Array) -> str:
        return self.graph.constant(f"{self.path}/{name}", values)

    def size(self, index: int, start: int, end: int | None = None, name: str = "size") -> str:
        tensor = self.types[index]
        dims = tensor.shape[start:end]
        known = [dim for dim in dims if isinstance(dim, int)]
        if len(known) == len(dims):
            return self.constant(name, known)
        if dims not in self.graph.sizes:
            bounds = {"start": start} | ({} if end is None else {"end": end})
            self.graph.sizes[dims] = self.emit("Shape", [self.inputs[index]], name, **bounds)
        return self.graph.sizes[dims]

    def emit(self, op_type: str, inputs: Sequence[str], part: str = "", **attributes: Any) -> str:
        if part:
            return self.emit_several(op_type, inputs, [part], **attributes)[0]
        name = self.graph.value(self.path)
        self.graph.add(op_type, self.path, inputs, [name], attributes)
        return name

    def emit_several(self, op_type: str, inputs: Sequence[str], parts: Sequence[str], **attributes: Any) -> list[str]:
        return self.graph.once(op_type, inputs, [f"{self.path}/{part}" for part in parts], attributes)

    def emit_part(self, op_type: str, inputs: Sequence[str], part: str, **attributes: Any) -> str:
        path = f"{self.path}.{part}"
        name = self.graph.value(path)
        self.graph.add(op_type, path, inputs, [name], attributes)
        return name

    def emit_parts(self, op_type: str, inputs: Sequence[str], parts: Sequence[str], **attributes: Any) -> None:
        names = [self.graph.value(f"{self.path}.{part}") for part in parts]
        self.graph.add(op_type, self.path, inputs, names, attributes)


def emit_graph(network: Network, weights: Mapping[str, Array]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model without its initializers, and these apart.

    Nodes and values are called after the layers' paths, outputs as the spec calls them, initializers after the
    state-dict's keys, free dimensions after the spec's names. The tensor of a `parameter`, whose key is the layer's
    path, has `/tensor` behind it, and a matrix that is kept transposed `/turned`.

    Raises:
        CompilerError: an op has no ONNX lowering.
    """
    writer = GraphWriter(network, weights)
    for path, _ in network.layers():
        writer.layer(path)
    for name, node in network.outputs.items():
        if node in network.inputs or writer.value(node) != name:
            # An input passed on, or a result that is an output by another name already.
            name_of_copy = name if name != node else f"{name}/output"
            writer.add("Identity", f"{name}/copy", [writer.value(node)], [name_of_copy], {})
    graph = helper.make_graph(
        writer.nodes,
        network.name,
        [_value(name, network.layer(name)["output"]) for name in network.inputs],
        [_value(name, network.layer(node)["output"]) for name, node in network.outputs.items()],
        doc_string=network.origin,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="netspec",
        producer_version=__version__,
    )
    return model, writer.initializers


def _value(name: str, tensor: TensorType) -> onnx.ValueInfoProto:
    shape = [dim if isinstance(dim, int) else str(dim) for dim in tensor.shape]
    return helper.make_tensor_value_info(name, _DTYPES[tensor.dtype], shape)


def add_metadata(model: onnx.ModelProto, network: Network, labels: Iterable[str] = ()) -> None:
    """Puts the spec, its arguments, the labels and the pre- and postprocessing into the model's metadata."""
    entries: dict[str, str] = {
        "netspec.version": __version__,
        "netspec.spec": network.text,
        "netspec.args": json.dumps(network.arguments),
    }
    deploy, train = network.sections.get("deploy"), network.sections.get("train")
    names = list(deploy.labels) if deploy and deploy.labels else list(labels)
    if names:
        entries["netspec.labels"] = json.dumps(names, ensure_ascii=False)
    images = [name for name in network.inputs if is_image(network, name)]
    pixels = {name: tensor.shape[3] for name in network.inputs if is_pixels(tensor := network.layer(name)["output"])}
    if pixels:
        found = {name: {"pixels": True, "channels": channels} for name, channels in pixels.items()}
        entries["netspec.preprocess"] = json.dumps(found)
    elif images and ((deploy and deploy.preprocess) or (train and train.data.images)):
        entries["netspec.preprocess"] = json.dumps({name: image_preprocessing(network, name) for name in images})
    postprocess = deploy.postprocess if deploy and deploy.postprocess else None
    if postprocess is None and train is not None and train.loss.kind == "cross_entropy":
        postprocess = "softmax"  # the loss takes logits, so logits are what the network gives
    task = served_task(network)
    if task:
        entries["netspec.task"] = json.dumps(task)
    elif postprocess:
        entries["netspec.postprocess"] = json.dumps(dict.fromkeys(network.outputs, postprocess))
    helper.set_model_props(model, entries)


def image_preprocessing(network: Network, name: str) -> dict[str, Any]:
    """How an image's pixels become the input: (pixel·scale − mean)/std for each channel, after resizing to `size`."""
    deploy = network.sections.get("deploy")
    steps = deploy.preprocess if deploy else None
    channels, *spatial = network.concrete(network.layer(name)["output"].shape)[1:]
    assert isinstance(channels, int)

    def spread(value: float | tuple[float, ...]) -> list[float]:
        return [float(item) for item in value] if isinstance(value, tuple) else [float(value)] * channels

    return {
        "channels": channels,
        "size": spatial if all(isinstance(size, int) for size in spatial) else None,
        "resize": steps.resize if steps else "bilinear",
        "scale": 1 / 255,
        "mean": spread(steps.mean) if steps else [0.0] * channels,
        "std": spread(steps.std) if steps else [1.0] * channels,
    }
