"""An exported model held against the PyTorch module that it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.module import build
from netspec import dims
from netspec.deployed import deployed, served_task
from netspec.network import Network
from netspec.tensor import TensorType

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is imported: a tool must not phone home
import onnxruntime

TOLERANCE = 1e-4
BATCHES = (1, 3)
PIXELS_APART = 0.5  # boxes farther apart are taken for different ones
MISSED = 0.01  # the share of boxes that only one side may find: which box suppresses which is left to rounding at times
Arrays = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of both: the greatest difference of any element, and the same over the output's largest magnitude.

    Attributes:
        detections: of a detector, how many were found, and how many of them by both.
    """

    shapes: dict[str, tuple[int, ...]]
    difference: float
    relative: float
    detections: tuple[int, int] | None = None


def compare(network: Network, module: nn.Module, path: Path, seed: int = 0, served: bool = True) -> list[Comparison]:
    """Runs ONNX Runtime and PyTorch on the same random inputs, at two batch sizes and, where free, two spatial sizes.

    Args:
        module: of the network as it is trained.
        served: whether the file holds the served form.

    Raises:
        CompilerError: ONNX Runtime refuses the model.
    """
    session = open_session(path)
    form = deployed(network) if served else network
    was_training, device = module.training, next((p.device for p in module.parameters()), torch.device("cpu"))
    run = (module if form is network else build(form, weights=module.state_dict()).to(device)).eval()
    generator = np.random.default_rng(seed)
    results = []
    for batch, growth in zip(BATCHES, (0, 1), strict=True):
        feeds = {}
        for name in form.inputs:
            tensor = form.layer(name)["output"]
            feeds[name] = _draw(generator, _shape(form, tensor, batch, growth), tensor.dtype)
        with torch.inference_mode():
            given = run(*(torch.from_numpy(feeds[name]).to(device) for name in form.inputs))
        expected = {name: tensor.cpu().numpy() for name, tensor in zip(form.outputs, _several(given), strict=True)}
        try:
            found = dict(zip(form.outputs, session.run(list(form.outputs), feeds), strict=True))
        except Exception as error:  # onnxruntime raises many types of its own
            raise CompilerError(f"ONNX Runtime can't run the model: {str(error).splitlines()[0]}") from None
        for name, reference in expected.items():
            if found[name].shape != reference.shape:
                raise CompilerError(f"ONNX Runtime gives {found[name].shape} where PyTorch gives {reference.shape}")
        task = served_task(form)
        shapes = {name: feeds[name].shape for name in feeds}
        detector = task.get("kind") == "detection"
        results.append(_detections(shapes, task, found, expected) if detector else _gap(shapes, found, expected))
    module.train(was_training)
    return results


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A file in ONNX Runtime on the CPU.

    Raises:
        CompilerError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types of its own
        raise CompilerError(f"ONNX Runtime refuses the model: {error}") from None


def _several(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)


def _gap(shapes: dict[str, tuple[int, ...]], found: Arrays, expected: Arrays) -> Comparison:
    """The greatest difference of any output."""
    difference = relative = 0.0
    for name, reference in expected.items():
        ours, theirs = found[name].astype(np.float32), reference.astype(np.float32)
        gap = float(np.max(np.abs(ours - theirs), initial=0.0))
        scale = float(np.max(np.abs(theirs), initial=0.0))
        # `not <=` so that NaN counts as a difference
        difference = gap if not gap <= difference else difference
        ratio = gap / scale if scale > 0 else gap
        relative = ratio if not ratio <= relative else relative
    return Comparison(shapes, difference, relative)


def _detections(
    shapes: dict[str, tuple[int, ...]], task: dict[str, str], found: Arrays, expected: Arrays
) -> Comparison:
    """The greatest difference, in pixels, of boxes that both found: of one class, with scores as good as equal.

    Which of two boxes with as good as equal scores comes first, and suppresses the other, is left to rounding. So the
    rows are not held against one another in order, and boxes that only one side has are counted.
    """
    difference, scale, total, common = 0.0, 1.0, 0, 0
    for image in range(len(expected[task["counts"]])):
        counts = (int(side[task["counts"]][image]) for side in (found, expected))
        ours, theirs = (
            {role: side[task[role]][image][:count] for role in ("boxes", "scores", "labels")}
            for side, count in zip((found, expected), counts, strict=True)
        )
        total += max(len(ours["boxes"]), len(theirs["boxes"]))
        scale = max(scale, float(np.max(np.abs(theirs["boxes"]), initial=0.0)))
        left = np.ones(len(theirs["boxes"]), dtype=bool)
        for box, score, label in zip(ours["boxes"], ours["scores"], ours["labels"], strict=True):
            alike = left & (theirs["labels"] == label) & (np.abs(theirs["scores"] - score) <= TOLERANCE)
            if not alike.any():
                continue
            gaps = np.where(alike, np.abs(theirs["boxes"] - box).max(axis=1), np.inf)
            nearest = int(gaps.argmin())
            if gaps[nearest] <= PIXELS_APART:
                left[nearest] = False
                common += 1
                difference = max(difference, float(gaps[nearest]))
    return Comparison(shapes, difference, difference / scale, (total, common))


def agrees(results: list[Comparison], tolerance: float = TOLERANCE) -> bool:
    """Whether every difference is within the tolerance, relative to the output's largest magnitude.

    Of the boxes of a detector, all but `MISSED` have to be found by both.
    """
    for result in results:
        total, common = result.detections or (0, 0)
        if not result.relative <= tolerance or total - common > MISSED * total:
            return False
    return True


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
