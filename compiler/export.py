"""From a network and its module to an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from compiler.onnx_file import write_model
from compiler.onnx_graph import add_metadata, emit_graph
from compiler.passes.fold_batchnorm import fold_batch_norms
from netspec.deployed import deployed
from netspec.network import Network


def export(
    network: Network, module: nn.Module, path: Path, labels: Iterable[str] = (), served: bool = True
) -> Path | None:
    """Writes the network with the module's weights as a checked ONNX file; returns the weights' side file, if any.

    Args:
        module: of the network as it is trained.
        served: write the served form, with what `deploy` adds; else the network as it is trained.

    Raises:
        CompilerError: an op has no ONNX lowering, the checker refuses the model, or a file can't be written.
    """
    weights = {key: tensor.detach().cpu().numpy() for key, tensor in module.state_dict().items()}
    form = deployed(network) if served else network
    if form is not network:  # what is as it was trained keeps its batch norms, and its weights their keys
        form, weights = fold_batch_norms(form, weights)
    model, initializers = emit_graph(form, weights)
    add_metadata(model, form, labels)
    return write_model(model, initializers, path)
