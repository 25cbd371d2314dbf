"""What a checked network can be made into, for `netspec.load(…)`: the entry-point group `netspec.backends`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.export import export
from compiler.module import Container, build
from compiler.source.writing import python_source
from compiler.weights import fitted, fitting_weights
from netspec.network import Network

__all__ = ["python_source", "to_onnx", "to_torch"]


def to_torch(network: Network, weights: str | Path | None = None, seed: int = 0) -> Container:
    """The network as a module, with weights from a file or drawn from a seed.

    Raises:
        CompilerError: the weights don't fit; it lists what differs.
    """
    return build(network, seed, fitting_weights(network, Path(weights)) if weights is not None else None)


def to_onnx(network: Network, path: str | Path, weights: Any = None) -> Path:
    """Writes the network as a checked ONNX file, with drawn weights or those of a module, a state-dict or a file.

    Raises:
        CompilerError: the file can't be written, or the weights don't fit; it lists what differs.
    """
    if isinstance(weights, nn.Module | Mapping):
        tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()):
            raise CompilerError("the weights are no state-dict", "give tensors by name, as `module.state_dict()` does")
        source = f"the given {type(weights).__name__}"
        module = build(
            network, weights={key: value.detach() for key, value in fitted(network, tensors, source).items()}
        )
    else:
        module = to_torch(network, weights)
    export(network, module.eval(), Path(path))
    return Path(path)
