"""netspec: networks as YAML specs, checked before any tensor exists.

This package is the language: it reads a spec and gives a checked graph. `compiler` turns the graph into PyTorch and
ONNX; `runtime` serves the ONNX file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netspec.diagnostics import Diagnostic, SpecError
    from netspec.loading import Checked, check, load
    from netspec.model import Model
    from netspec.network import Layer, Network

__version__ = "0.1.0"
__all__ = ["Checked", "Diagnostic", "Layer", "Model", "Network", "SpecError", "check", "load"]

_HOMES = {
    "Checked": "loading",
    "check": "loading",
    "load": "loading",
    "Diagnostic": "diagnostics",
    "SpecError": "diagnostics",
    "Layer": "network",
    "Network": "network",
    "Model": "model",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for when it is: a command that needs little of the package pays for little."""
    if name not in _HOMES:
        raise AttributeError(f"module 'netspec' has no attribute {name!r}")
    return getattr(import_module(f"netspec.{_HOMES[name]}"), name)
