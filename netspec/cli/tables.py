"""Tables on the terminal. Apart from the other helpers, because rich takes as long to import as a spec to check."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str], title: str | None = None
) -> None:
    """Prints rows under headings; columns named in `numbers` stand to the right and are never broken.

    A pipe has no width, so nothing is cut off there.
    """
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for heading in headings:
        number = heading in numbers
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        console = Console(highlight=False, width=max(len(title or ""), sum(widths) + 3 * len(widths)))
    console.print(table)
