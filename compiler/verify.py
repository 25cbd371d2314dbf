"""An exported model held against the PyTorch module that it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compiler.errors import CompilerError
from netspec import dims
from netspec.network import Network
from netspec.tensor import TensorType

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is imported: a tool must not phone home
import onnxruntime

TOLERANCE = 1e-4
BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of both: the greatest difference of any element, and the same over the output's largest magnitude."""

    shapes: dict[str, tuple[int, ...]]
    difference: float
    relative: float


def compare(network: Network, module: nn.Module, path: Path, seed: int = 0) -> list[Comparison]:
    """Runs ONNX Runtime and PyTorch on the same random inputs, at two batch sizes and, where free, two spatial sizes.

    Raises:
        CompilerError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types of its own
        raise CompilerError(f"ONNX Runtime refuses the model: {error}") from None
    generator = np.random.default_rng(seed)
    was_training, device = module.training, next((p.device for p in module.parameters()), torch.device("cpu"))
    module.eval()
    results = []
    for batch, growth in zip(BATCHES, (0, 1), strict=True):
        feeds = {}
        for name in network.inputs:
            tensor = network.layer(name)["output"]
            shape = _shape(network, tensor, batch, growth)
            feeds[name] = _draw(generator, shape, tensor.dtype)
        with torch.inference_mode():
            given = module(*(torch.from_numpy(feeds[name]).to(device) for name in network.inputs))
        expected = given if isinstance(given, tuple) else (given,)
        try:
            found = session.run(list(network.outputs), feeds)
        except Exception as error:  # as above
            raise CompilerError(f"ONNX Runtime can't run the model: {str(error).splitlines()[0]}") from None
        difference = relative = 0.0
        for ours, theirs in zip(found, expected, strict=True):
            reference = theirs.float().cpu().numpy()
            if ours.shape != reference.shape:
                raise CompilerError(f"ONNX Runtime gives {ours.shape} where PyTorch gives {reference.shape}")
            gap = float(np.max(np.abs(ours.astype(np.float32) - reference), initial=0.0))
            scale = float(np.max(np.abs(reference), initial=0.0))
            # `not <=` so that NaN counts as a difference
            difference = gap if not gap <= difference else difference
            ratio = gap / scale if scale > 0 else gap
            relative = ratio if not ratio <= relative else relative
        results.append(Comparison({name: feeds[name].shape for name in feeds}, difference, relative))
    module.train(was_training)
    return results


def agrees(results: list[Comparison], tolerance: float = TOLERANCE) -> bool:
    """Whether every difference is within the tolerance, relative to the output's largest magnitude."""
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
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
