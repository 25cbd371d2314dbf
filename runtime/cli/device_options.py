"""The options of a device: what a server and a measurement take beyond the device itself and its threads."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime.cli.options import Decorator
from runtime.engine_options import GOES_WITH, EngineOptions
from runtime.errors import DeviceError

# The fields of options in messages, which on the command line are named otherwise.
NAMES = re.compile(rf"\b(?:{'|'.join(GOES_WITH)})\b")
Options = TypeVar("Options", bound=EngineOptions)

DEVICE_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--spinning/--no-spinning",
        default=None,
        help="Whether idle threads wait busily: a lone request is answered sooner.  [default: with one instance]",
    ),
    click.option(
        "--device-id", type=click.IntRange(min=0), metavar="N", help="The number of the GPU.  [default: the first]"
    ),
    click.option(
        "--gpu-memory",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="The most that CUDA takes for a model's tensors.  [default: no bound]",
    ),
    click.option("--cuda-graph", is_flag=True, help="Record a run once and play it again; every shape must be fixed."),
    click.option("--fp16", is_flag=True, help="Let TensorRT compute in half precision."),
    click.option(
        "--engine-cache",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where TensorRT keeps what it has built.  [default: it builds at each start]",
    ),
)


def take_options(kind: type[Options], given: dict[str, Any]) -> Options:
    """Options of this kind, made of those on the command line, which are taken out of `given`."""
    try:
        return kind(**{field.name: given.pop(field.name) for field in fields(kind) if field.name in given})
    except DeviceError as error:  # options that contradict each other
        message = error.message + (f"; {error.help}" if error.help else "")
        raise click.UsageError(NAMES.sub(lambda name: "--" + name[0].replace("_", "-"), message)) from None
