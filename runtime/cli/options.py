"""The options that every command which runs a model has."""

import click

from runtime.engine_options import DEVICES, MAX_THREADS

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
    help="CPU threads inside one operator.  [default: one per core]",
)
