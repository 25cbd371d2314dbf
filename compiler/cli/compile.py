"""`netspec compile`."""

from __future__ import annotations

from pathlib import Path

import click

from compiler.cli.common import told
from compiler.files import write_text
from netspec.cli.common import load_or_exit, set_option


@click.command(epilog="Example: netspec compile resnet50 -o resnet50.py")
@click.argument("spec")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="The file to write. Default: the text is printed.")
@set_option
@told
def command(spec: str, out: str | None, settings: tuple[str, ...]) -> None:
    """Write SPEC as PyTorch source that needs no netspec: a class for each block, the spec's names, shapes in comments.

    The module has the same state-dict, and gives the same outputs to the bit.
    """
    network = load_or_exit(spec, settings)
    from compiler.source.writing import python_source  # PyTorch, only once the spec is known to be valid

    text = python_source(network)
    if out is None or out == "-":
        click.echo(text, nl=False)
        return
    write_text(Path(out), text)
    click.echo(f"{out}: {len(text.splitlines())} lines")
