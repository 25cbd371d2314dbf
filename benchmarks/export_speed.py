"""Export of the digits' ResNet, to a checked file, against both of PyTorch's exporters writing the same module."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import torch

from benchmarks.measuring import Result, alternate, medians, publish
from compiler.export import export
from compiler.module import build
from compiler.verify import agrees, compare
from netspec import load

ROUNDS = 5


def measure() -> list[Result]:
    network = load("resnet")
    module = build(network).eval()
    x = torch.randn(2, 1, 8, 8)
    axes = {"image": {0: "N", 2: "H", 3: "W"}}
    dim = torch.export.Dim
    shapes = ({0: dim("N"), 2: dim("H", min=4, max=512), 3: dim("W", min=4, max=512)},)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def torchscript() -> None:
            torch.onnx.export(
                module, (x,), str(folder / "ts.onnx"), dynamo=False, input_names=["image"], dynamic_axes=axes
            )

        def dynamo() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                torch.onnx.export(
                    module, (x,), str(folder / "dynamo.onnx"), dynamo=True, input_names=["image"],
                    dynamic_shapes={"inputs": shapes}, verbose=False,
                )  # fmt: skip

        def ours() -> None:
            export(network, module, folder / "ours.onnx")

        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        times = medians(alternate({"netspec": ours, "TorchScript": torchscript, "dynamo": dynamo}, ROUNDS, warm_up=1))
        assert agrees(compare(network, module, folder / "ours.onnx"))
    return [
        Result(
            f"export_speed_{rival.lower()}",
            f"time of torch.onnx.export ({rival}) over netspec's export, the digits' ResNet, in process",
            times[rival] / times["netspec"],
            5,
            False,
            {"netspec": times["netspec"], rival: times[rival]},
            {"rounds": ROUNDS},
        )
        for rival in ("TorchScript", "dynamo")
    ]


if __name__ == "__main__":
    publish(measure)
