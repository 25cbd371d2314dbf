"""Tables: with colour and folded columns on a terminal, as plain lines for a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import click

Rows = Sequence[Sequence[str]]


def show_table(headings: Sequence[str], rows: Rows, numbers: Collection[str], title: str | None = None) -> None:
    """Prints rows under headings; columns named in `numbers` stand to the right and are never broken.

    A pipe has no width, so nothing is cut off there.
    """
    if sys.stdout.isatty():
        _show_on_a_terminal(headings, rows, numbers, title)
        return
    if title is not None:
        click.echo(title)
    for line in _lines(headings, rows, numbers):
        click.echo(line)


def _lines(headings: Sequence[str], rows: Rows, numbers: Collection[str]) -> list[str]:
    """The lines of a table as wide as it needs to be."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str], bar: str) -> str:
        padded = [
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for cell, width, heading in zip(cells, widths, headings, strict=True)
        ]
        return f" {bar} ".join(padded).rstrip()

    rule = "━╇━".join("━" * width for width in widths)
    return [line(headings, "┃"), rule, *(line(row, "│") for row in rows)]


def _show_on_a_terminal(headings: Sequence[str], rows: Rows, numbers: Collection[str], title: str | None) -> None:
    from rich.console import Console  # takes as long to import as a spec to check
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for heading in headings:
        number = heading in numbers
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
