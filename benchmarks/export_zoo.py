"""Export of networks of the zoo with their weights, ours checked, against both of PyTorch's exporters.

The rivals are spared: they write plain PyTorch modules, with a free batch size only, and check nothing. Every export
writes new files: some file systems wait for the disk where one replaces another, whoever writes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import Result, alternate, medians, publish, worst
from benchmarks.plain import plain_class
from benchmarks.rival_exports import RIVALS, quiet
from compiler.export import export
from compiler.module import build
from netspec import load

NAMES = ("resnet50", "densenet121", "googlenet", "vgg16")
LIMITS = {"TorchScript": 3, "dynamo": 10}
ROUNDS = {"TorchScript": 5, "dynamo": 4}


def times_of(name: str) -> dict[str, dict[str, float]]:
    """Our times and the rival's, for each rival."""
    network = load(name)
    module, plain = build(network).eval(), plain_class(network)().eval()
    plain.load_state_dict(module.state_dict())
    image = torch.randn(2, 3, 224, 224)
    found = {}
    with tempfile.TemporaryDirectory() as name_of_folder, quiet():
        folder = Path(name_of_folder)

        def remove() -> None:
            for file in folder.iterdir():
                file.unlink()

        ours = partial(export, network, module, folder / "netspec.onnx")
        for rival, theirs in RIVALS.items():
            path = folder / f"{rival}.onnx"
            calls: dict[str, Callable[[], object]] = {"netspec": ours, rival: partial(theirs, plain, image, path)}
            found[rival] = medians(alternate(calls, ROUNDS[rival], warm_up=1, after=remove))
    return found


def measure() -> list[Result]:
    found = {name: times_of(name) for name in NAMES}
    return [
        worst(
            f"export_zoo_{rival.lower()}",
            f"time of torch.onnx.export ({rival}) over netspec's checked export, with weights, in process",
            {name: times[rival][rival] / times[rival]["netspec"] for name, times in found.items()},
            LIMITS[rival],
            False,
            {f"{name}, {side}": value for name, times in found.items() for side, value in times[rival].items()},
            {"rounds": ROUNDS[rival]},
        )
        for rival in RIVALS
    ]


if __name__ == "__main__":
    publish(measure)
