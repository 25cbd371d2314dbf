"""`netspec draw`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from netspec.cli.common import load_or_exit, refuse, served_option, set_option
from netspec.drawing import FORMATS, DrawingError, draw
from netspec.files import write_whole


@click.command(epilog="Example: netspec draw googlenet -o googlenet.svg")
@click.argument("spec")
@click.option("-o", "--out", metavar="FILE", help="Where to; its ending says the format. `-` is the standard output.")
@click.option("--format", "form", type=click.Choice([*FORMATS]), help="Default: by the ending of --out.")
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    help="How many levels of containers are open. Default: as many as fit on a page.",
)
@click.option("--fold", multiple=True, metavar="PATH", help="A container to draw as one box.")
@click.option("--unfold", multiple=True, metavar="PATH", help="A container to draw open, whatever the depth.")
@set_option
@served_option
def command(
    spec: str,
    out: str | None,
    form: str | None,
    depth: int | None,
    fold: tuple[str, ...],
    unfold: tuple[str, ...],
    settings: tuple[str, ...],
    served: bool,
) -> None:
    """Draw SPEC: containers as boxes that fold, tensors as arrows with their shapes, parameters as colour.

    html is one page that folds at a click; dot and mmd are texts for Graphviz and Mermaid.
    """
    form = form or _format_of(out)
    if out is None and form == "png" and sys.stdout.isatty():
        raise click.UsageError("a PNG is nothing for a terminal; say where to: -o net.png")
    network = load_or_exit(spec, settings, served=served)
    try:
        drawn = draw(network, form, depth, fold, unfold)
    except DrawingError as error:
        refuse(error.message, error.help)
    if out in (None, "-"):
        click.echo(drawn, nl=False)
        return
    assert out is not None
    try:
        write_whole(Path(out), drawn)
    except OSError as error:
        refuse(f"`{out}` can't be written: {error.strerror or error}")


def _format_of(out: str | None) -> str:
    ending = Path(out or "").suffix.removeprefix(".").lower()
    if ending in FORMATS:
        return ending
    known = ", ".join(FORMATS)
    if not ending:
        raise click.UsageError(f"say where to, -o net.svg, or which --format: {known}")
    raise click.UsageError(f"`.{ending}` is no format that can be drawn; there are {known}")
