"""`netspec data`."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from compiler.cli.common import told
from compiler.data import digit_images, digit_split
from compiler.errors import CompilerError
from compiler.files import whole_file
from netspec.choices import Digits
from netspec.cli.common import load_or_exit, set_option


@click.command(epilog="Example: netspec data resnet --out digits --split test")
@click.argument("spec")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder to write a folder a class into."
)
@set_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", help="Default: test, the held-out part.")
@click.option("--limit", type=click.IntRange(1), help="Write at most so many images.")
@told
def command(spec: str, out: Path, settings: tuple[str, ...], split: str, limit: int | None) -> None:
    """Write the built-in images that SPEC is trained on as PNG files, a folder for each class.

    They can be predicted one by one, or be trained on with `data: {folder: …}`.
    """
    recipe = load_or_exit(spec, settings).sections.get("train")
    if recipe is None or not isinstance(recipe.data, Digits):
        raise CompilerError("only the built-in `digits` are written; other data are files already")
    images, classes = digit_images()
    train, test = digit_split(recipe.data.test)
    chosen = (train if split == "train" else test)[:limit]
    for index in chosen:
        with whole_file(out / str(classes[index]) / f"{index:04}.png") as temporary:
            Image.fromarray(images[index]).save(temporary, format="PNG")
    click.echo(f"{len(chosen)} images in {out}")
