"""What the commands of the compiler share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from compiler.errors import CompilerError
from netspec.cli.common import refuse

P = ParamSpec("P")
R = TypeVar("R")


def told(function: Callable[P, R]) -> Callable[P, R]:
    """Shows a `CompilerError` as a message and ends with 1."""

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except CompilerError as error:
            refuse(error.message, error.help)

    return wrapped


def spec_folder(file: str) -> Path:
    """The folder against which a spec's relative paths are taken."""
    return Path(file).resolve().parent


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA where it works.

    Raises:
        CompilerError: CUDA was asked for and does not work; it says why.
    """
    works = torch.cuda.is_available()
    if name == "cuda" and not works:
        if torch.version.cuda is None:
            why = f"this PyTorch ({torch.__version__}) is built without CUDA"
        elif torch.cuda.device_count() == 0:
            why = "PyTorch finds no CUDA device, or no driver for it"
        else:
            why = "PyTorch can't initialise CUDA"
        raise CompilerError(f"--device cuda: {why}", "use `--device cpu`, or install a PyTorch with CUDA")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and works) else "cpu")
