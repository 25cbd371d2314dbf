"""`netspec summary`."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from netspec.cli.common import load_or_exit, set_option
from netspec.summary import HEADINGS, as_csv, as_markdown, rows, summarise, title, totals


@click.command(epilog="Example: netspec summary lenet5 --format markdown")
@click.argument("spec")
@set_option
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "csv"]), default="table", help="Default: table."
)
def command(spec: str, settings: tuple[str, ...], form: str) -> None:
    """Show the layers of SPEC with their output shapes, parameters, multiply-accumulates and receptive fields.

    Sizes are for one sample at the spec's own input size. A fused multiply-add counts as one.
    """
    summary = summarise(load_or_exit(spec, settings))
    if form == "json":
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif form == "markdown":
        click.echo(as_markdown(summary))
    elif form == "csv":
        click.echo(as_csv(summary))
    else:
        _print_table(summary)


def _print_table(summary: dict[str, Any]) -> None:
    table = Table(title=title(summary), title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for heading in HEADINGS:
        number = heading in ("parameters", "MACs")  # what has to stay in one piece on a narrow terminal
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    cells = rows(summary)
    for row in cells:
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: nothing is cut off
        widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
        console = Console(highlight=False, width=max(len(title(summary)), sum(widths) + 3 * len(widths)))
    console.print(table)
    console.print()
    for name, value in totals(summary):
        console.print(f"{name:<20}{value}")
