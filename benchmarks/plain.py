"""The rival of the compiled module: the network as plain PyTorch, from the source that `netspec compile` writes."""

from __future__ import annotations

from typing import Any

from torch import nn

from compiler.source.writing import python_source
from netspec.network import Network


def plain_class(network: Network) -> type[nn.Module]:
    """A class without arguments; its state-dict has the spec's keys."""
    scope: dict[str, Any] = {"__name__": network.name}
    exec(compile(python_source(network), f"{network.name}.py", "exec"), scope)
    return [thing for thing in scope.values() if isinstance(thing, type) and issubclass(thing, nn.Module)][-1]
