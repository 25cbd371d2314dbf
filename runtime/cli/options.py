"""The options that several of the commands have, and how they are put to them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from runtime.engine_options import DEVICES, MAX_SECONDS, MAX_THREADS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where the model runs; auto is CUDA where it works, else the CPU.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    metavar="N",
    help="CPU threads of one run.  [default: one per core, shared among the instances]",
)
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text for people, or JSON for scripts.",
)


def options(group: Sequence[Decorator]) -> Decorator:
    """All options of a group, in their order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(group):
            function = option(function)
        return function

    return add


class Seconds(click.FloatRange):
    """A finite number of seconds above 0, or at least 0."""

    name = "seconds"

    def __init__(self, zero: bool = False) -> None:
        """Takes 0 too where `zero` is given."""
        super().__init__(min=0, max=MAX_SECONDS, min_open=not zero)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; NaN, which lies in every range, is refused."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds
