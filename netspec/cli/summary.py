"""`netspec summary`."""

from __future__ import annotations

import json
from typing import Any

import click

from netspec.cli.common import input_option, load_or_exit, served_option, set_option
from netspec.cli.tables import show_table
from netspec.summary import HEADINGS, as_csv, as_markdown, rows, summarise, title, totals


@click.command(epilog="Example: netspec summary lenet5 --format markdown")
@click.argument("spec")
@set_option
@input_option
@served_option
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "csv"]), default="table", help="Default: table."
)
def command(spec: str, settings: tuple[str, ...], inputs: tuple[str, ...], served: bool, form: str) -> None:
    """Show the layers of SPEC with their output shapes, parameters, multiply-accumulates and receptive fields.

    Sizes are for one sample at the spec's own input size. A fused multiply-add counts as one.
    """
    summary = summarise(load_or_exit(spec, settings, inputs, served))
    if form == "json":
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif form == "markdown":
        click.echo(as_markdown(summary))
    elif form == "csv":
        click.echo(as_csv(summary))
    else:
        _print_table(summary)


def _print_table(summary: dict[str, Any]) -> None:
    show_table(HEADINGS, rows(summary), ("parameters", "MACs"), title(summary))
    click.echo()
    for name, value in totals(summary):
        click.echo(f"{name:<20}{value}")
