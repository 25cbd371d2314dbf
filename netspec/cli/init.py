"""`netspec init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from netspec.cli.common import refuse, show_diagnostics
from netspec.files import write_whole
from netspec.starter import TASKS, Images, NoStarter, find_images, starter

FOLDER = "images"


@click.command(epilog="Example: netspec init flowers.yaml --like resnet18 --data flowers")
@click.argument("path", type=click.Path(path_type=Path), default=Path("net.yaml"))
@click.option("--task", type=click.Choice(list(TASKS)), help="Default: digits; classification with --data.")
@click.option("--like", metavar="SPEC", help="Build on the layers of this spec, a file or a name in the zoo.")
@click.option("--data", type=click.Path(path_type=Path), help="The folder with a folder of images for each class.")
def command(path: Path, task: str | None, like: str | None, data: Path | None) -> None:
    """Write a commented spec to start from to PATH, net.yaml if missing.

    Its task is digits, a small network on handwritten digits that trains at once, or classification, a classifier of
    one's own images: --data names their folder, images/ beside PATH if missing, and the classes are counted there. With
    --like it has the layers of another spec. What stands at PATH already is never overwritten.
    """
    if task == "digits" and (like or data):
        raise click.UsageError("--task digits brings its own network and data: leave --like and --data out")
    if path.exists():
        refuse(f"`{path}` exists already", "name another file: `netspec init other.yaml`")
    own_images = task == "classification" or bool(like or data)
    folder = data or path.parent / FOLDER
    try:
        images = find_images(folder) if data or (own_images and folder.is_dir()) else Images(folder)
        text = starter(path, "classification" if own_images else "digits", images, like)
        write_whole(path, text)
    except NoStarter as error:
        show_diagnostics(error.diagnostics)
        refuse(error.message, error.help)
    except OSError as error:
        refuse(f"`{path}` can't be written: {error.strerror or error}")
    _tell(path, folder if own_images and not folder.is_dir() else None)


def _tell(path: Path, missing: Path | None) -> None:
    """What was written, and what comes next."""
    name = shlex.quote(str(path))
    click.echo(f"wrote {path}")
    if missing:
        click.echo(f"put a folder of images for each class into {missing}, and set `classes` to their number; then")
    for line in (f"netspec validate {name}", f"netspec train {name} --out {shlex.quote(f'runs/{path.stem}')}"):
        click.echo(f"  {line}")
