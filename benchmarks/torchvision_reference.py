"""Weights and inputs drawn as `tests/reference` says, and the comparison with what torchvision gave for them."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "reference"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
DETECTORS = ("fasterrcnn_resnet50_fpn", "ssd300_vgg16")  # of which stages are known, in place of runs
TOLERANCE = 1e-4  # of the reference output's standard deviation


def reference(name: str) -> dict[str, Any]:
    """What is known of a model."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def _normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)


def drawn_weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A weight or buffer by the rule: by the last part of its key."""
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = _normal(key, shape)
    if last == "running_var":
        z = 1 + 0.1 * np.abs(z)
    elif last in ("running_mean", "bias"):
        z = 0.1 * z
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    else:
        z = z * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(z, dtype=np.float32))


def drawn_input(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(_normal(f"input:{name}", shape))


def difference(output: np.ndarray, expected: dict[str, Any]) -> float:
    """The greatest difference of the sampled values, the mean and the standard deviation, over the latter."""
    assert list(output.shape) == expected["shape"]
    flat = output.astype(np.float64).ravel()
    values = np.array(expected["values"], dtype=np.float64)
    places = torch.linspace(0, flat.size - 1, len(values)).long().numpy()  # in float32, as the places were read off
    gaps = [
        np.abs(flat[places] - values).max(),
        abs(flat.mean() - expected["mean"]),
        abs(flat.std(ddof=1) - expected["std"]),
    ]
    return float(max(gaps) / expected["std"])
