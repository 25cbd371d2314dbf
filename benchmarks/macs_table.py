"""Parameters and MACs of the zoo beside the counts of torchinfo and fvcore, as the table of `docs/macs.md`.

Each difference is counted from the modules themselves, and the script fails where something is left unexplained.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from benchmarks.plain import plain_class
from netspec import load

PAGE = Path(__file__).resolve().parent.parent / "docs" / "macs.md"
NAMES = ("alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "resnet152", "densenet121")
BEGIN, END = "<!-- python -m benchmarks.macs_table -->\n", "<!-- end -->"
HEADINGS = (
    "network", "parameters", "MACs", "torchinfo", "of which biases", "of which batch norm",
    "fvcore", "of which batch norm", "of which average pooling",
)  # fmt: skip


def additions(module: nn.Module, image: Tensor) -> tuple[int, int]:
    """What torchinfo counts beside products: biases, once per place of the output, and batch norms' weights, once."""
    biases = norms = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal biases, norms
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            biases += output.numel()
        elif isinstance(layer, nn.Linear):
            biases += layer.out_features
        elif isinstance(layer, nn.BatchNorm2d):
            norms += 2 * layer.num_features

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    with torch.inference_mode():
        module(image)
    for hook in hooks:
        hook.remove()
    return biases, norms


def row(name: str) -> tuple[str | int, ...]:
    network = load(name)
    module = plain_class(network)().eval()
    image = torch.zeros(1, 3, 224, 224)
    macs = network.macs()
    info = torchinfo.summary(module, input_data=image, verbose=0)
    biases, norms = additions(module, image)
    assert info.total_params == network.parameters()
    assert info.total_mult_adds == macs + biases + norms, name
    with torch.inference_mode():
        analysis = FlopCountAnalysis(module, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        flops = analysis.by_operator()
    assert flops["conv"] + flops["linear"] == macs, name
    others = flops["batch_norm"], flops["adaptive_avg_pool2d"]
    total = analysis.total()
    assert total == macs + sum(others), name
    return name, network.parameters(), macs, info.total_mult_adds, biases, norms, total, *others


def table() -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "--:|" * (len(HEADINGS) - 1)]
    for name in NAMES:
        cells = [f"{cell:,}" if isinstance(cell, int) else cell for cell in row(name)]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")
