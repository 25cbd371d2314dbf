"""What a checked network can be made into, for `netspec.load(…)`: the entry-point group `netspec.backends`."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compiler.export import export
from compiler.module import Container, build
from compiler.source.writing import python_source
from compiler.weights import fitting_weights
from netspec.network import Network

__all__ = ["python_source", "to_onnx", "to_torch"]


def to_torch(network: Network, weights: str | Path | None = None, seed: int = 0) -> Container:
    """The network as a module, with weights from a file or drawn from a seed.

    Raises:
        CompilerError: the weights don't fit; it lists what differs.
    """
    return build(network, seed, fitting_weights(network, Path(weights)) if weights is not None else None)


def to_onnx(network: Network, path: str | Path, weights: nn.Module | str | Path | None = None) -> Path:
    """Writes the network as a checked ONNX file, with the weights of a module or a file, or drawn ones.

    Raises:
        CompilerError: the file can't be written, or the weights don't fit.
    """
    module = weights if isinstance(weights, nn.Module) else to_torch(network, weights)
    was_training = module.training
    export(network, module.eval(), Path(path))
    module.train(was_training)
    return Path(path)
