"""The options of a device: what a server and a measurement take beyond the device itself and its threads."""

from pathlib import Path

import click

from runtime.cli.options import Decorator

DEVICE_OPTIONS: tuple[Decorator, ...] = (
    click.option("--device-id", type=click.IntRange(min=0), metavar="N", help="The number of the GPU.  [default: 0]"),
    click.option(
        "--gpu-memory",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="The most that CUDA takes for a model's tensors.  [default: no bound]",
    ),
    click.option(
        "--cuda-graph",
        is_flag=True,
        help="Record a run once and play it again; for models of fixed shapes, with one instance.",
    ),
    click.option("--fp16", is_flag=True, help="Let TensorRT compute in half precision."),
    click.option(
        "--engine-cache",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where TensorRT keeps what it built, for the next start.  [default: it builds at each start]",
    ),
    click.option(
        "--spinning/--no-spinning",
        default=None,
        help="Whether idle threads wait busily: quicker alone, slower beside others.  [default: with one instance]",
    ),
)
