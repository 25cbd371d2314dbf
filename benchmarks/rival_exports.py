"""PyTorch's two ONNX exporters, quiet, writing a module that takes images of free batch size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

Export = Callable[[nn.Module, Tensor, Path], None]


def torchscript(module: nn.Module, image: Tensor, path: Path) -> None:
    axes = {"image": {0: "N"}}
    torch.onnx.export(module, (image,), str(path), dynamo=False, input_names=["image"], dynamic_axes=axes)


def dynamo(module: nn.Module, image: Tensor, path: Path) -> None:
    shapes = ({0: torch.export.Dim("N")},)
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            module, (image,), str(path), dynamo=True, input_names=["image"], dynamic_shapes=shapes, verbose=False
        )


RIVALS: dict[str, Export] = {"TorchScript": torchscript, "dynamo": dynamo}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log, which both exporters are full of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
