"""An exported model held against the PyTorch module that it came from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.lowering.base import lowering_of
from compiler.module import build, submodule
from compiler.onnx_graph import value_names
from netspec import dims
from netspec.deployed import deployed, served_task
from netspec.network import Network
from netspec.ops.base import Part
from netspec.tensor import TensorType

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is imported: a tool must not phone home
import onnxruntime

TOLERANCE = 1e-4
BATCHES = (1, 3)
Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of both.

    Attributes:
        shapes: of the inputs.
        difference: the greatest of any element of the outputs, and of what boxes or classes were chosen among.
        relative: the greatest of these tensors' differences over their largest magnitudes.
        detections: of a detector, how many were found.
    """

    shapes: dict[str, tuple[int, ...]]
    difference: float
    relative: float
    detections: int | None = None


def compare(network: Network, module: nn.Module, path: Path, seed: int = 0, served: bool = True) -> list[Comparison]:
    """Runs ONNX Runtime and PyTorch on the same random inputs, at two batch sizes and, where free, two spatial sizes.

    Of scores that are as good as equal rounding decides which comes first, and with it which box suppresses another.
    So at every op that chooses, what it reads is compared, and PyTorch then chooses among what ONNX Runtime reads.

    Args:
        module: of the network as it is trained.
        served: whether the file holds the served form.

    Raises:
        CompilerError: ONNX Runtime refuses the model.
    """
    form = deployed(network) if served else network
    choices = _Choices(form)
    session = open_session(path, choices.read)
    was_training, device = module.training, next((p.device for p in module.parameters()), torch.device("cpu"))
    run = (module if form is network else build(form, weights=module.state_dict()).to(device)).eval()
    generator = np.random.default_rng(seed)
    results = []
    for batch, growth in zip(BATCHES, (0, 1), strict=True):
        feeds = {}
        for name in form.inputs:
            tensor = form.layer(name)["output"]
            feeds[name] = _draw(generator, _shape(form, tensor, batch, growth), tensor.dtype)
        asked = [*form.outputs, *choices.read]
        try:
            values = dict(zip(asked, session.run(asked, feeds), strict=True))
        except Exception as error:  # onnxruntime raises many types of its own
            raise CompilerError(f"ONNX Runtime can't run the model: {str(error).splitlines()[0]}") from None
        with torch.inference_mode(), choices.shared(run, values | feeds) as pairs:
            given = run(*(torch.from_numpy(feeds[name]).to(device) for name in form.inputs))
        for name, result in zip(form.outputs, _several(given), strict=True):
            if values[name].shape != tuple(result.shape):
                raise CompilerError(
                    f"ONNX Runtime gives {values[name].shape} where PyTorch gives {tuple(result.shape)}"
                )
            pairs.append((values[name], result.cpu().numpy()))
        task = served_task(form)
        found = int(values[task["counts"]].sum()) if task.get("kind") == "detection" else None
        gaps = [_gap(ours, theirs) for ours, theirs in pairs]
        # `np.max`, as NaN is a difference
        difference, relative = (float(np.max(column)) for column in zip(*gaps, strict=True))
        results.append(Comparison({name: feeds[name].shape for name in feeds}, difference, relative, found))
    module.train(was_training)
    return results


class _Choices:
    """The layers of a network that choose, and what they read.

    Attributes:
        read: what the values that they read are called in the ONNX graph, the network's inputs apart.
    """

    def __init__(self, network: Network) -> None:
        names = value_names(network)
        self.calls: dict[str, list[list[str]]] = {}  # by module: what each of its calls reads, in order
        for _, layer in network.layers():
            op = layer["op"]
            if op is not None and not isinstance(op, Part) and lowering_of(op).chooses:
                reads = [names.get(node, node) for node in layer["inputs"]]
                self.calls.setdefault(layer["module"], []).append(reads)
        every = dict.fromkeys(name for calls in self.calls.values() for reads in calls for name in reads)
        self.read = [name for name in every if name not in network.inputs and name not in network.outputs]

    @contextlib.contextmanager
    def shared(self, module: nn.Module, values: Arrays) -> Iterator[list[tuple[Array, Array]]]:
        """While it is entered, the layers of `module` that choose are given these values in place of PyTorch's.

        Gives the pairs of both, which are added as the module runs.
        """
        pairs: list[tuple[Array, Array]] = []

        def replace(calls: Iterator[list[str]], _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            given = [values[name] for name in next(calls)]
            pairs.extend(zip(given, (tensor.cpu().numpy() for tensor in inputs), strict=True))
            return tuple(torch.from_numpy(array).to(inputs[0].device) for array in given)

        with contextlib.ExitStack() as hooks:
            for path, calls in self.calls.items():
                hook = partial(replace, iter(calls))
                hooks.enter_context(submodule(module, path).register_forward_pre_hook(hook))
            yield pairs


def open_session(path: Path, also: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """A file in ONNX Runtime on the CPU.

    Args:
        also: the names of values that are outputs as well.

    Raises:
        CompilerError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model: str | bytes = str(path)
    if also:
        read = onnx.load(path, load_external_data=False)
        read.graph.output.extend(onnx.ValueInfoProto(name=name) for name in also)
        model = read.SerializeToString()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types of its own
        raise CompilerError(f"ONNX Runtime refuses the model: {error}") from None


def _several(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)


def _gap(found: Array, expected: Array) -> tuple[float, float]:
    """The greatest difference of two tensors, and the same over the latter's largest magnitude."""
    ours, theirs = found.astype(np.float32), expected.astype(np.float32)
    gap = float(np.max(np.abs(ours - theirs), initial=0.0))
    scale = float(np.max(np.abs(theirs), initial=0.0))
    return gap, gap / scale if scale > 0 else gap


def agrees(results: list[Comparison], tolerance: float = TOLERANCE) -> bool:
    """Whether every difference is within the tolerance, relative to the tensor's largest magnitude."""
    return all(result.relative <= tolerance for result in results)


def _shape(network: Network, tensor: TensorType, batch: int, growth: int) -> tuple[int, ...]:
    """A shape to try: the batch as asked, spatial dimensions that are free at twice their size in the second run."""
    sizes = {name: size * (growth + 1) for name, size in network.sizes.items()}
    shape = []
    for index, dim in enumerate(tensor.shape):
        size = dims.evaluate(dim, sizes)
        shape.append(batch if index == 0 else size if isinstance(size, int) else 32 * (growth + 1))
    return tuple(shape)


def _draw(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[tuple[int, ...], np.dtype]:
    if len(shape) == 3 and shape[2] == 4 and dtype == "float32":  # boxes, in pixels
        corners = generator.uniform(0, 64, (*shape[:2], 2, 2))
        return np.concatenate([corners.min(2), corners.max(2)], axis=2).astype(dtype)
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 256 if dtype == "uint8" else 2, shape).astype(dtype)
