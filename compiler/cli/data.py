"""`netspec data`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
from PIL import Image

from compiler.cli.common import told
from compiler.datasets.digits import digit_images, digit_split
from compiler.datasets.scenes import digit_scenes
from compiler.datasets.writing import Form, write_dataset
from compiler.errors import CompilerError
from compiler.files import whole_file
from netspec.choices import Digits
from netspec.cli.common import load_or_exit, set_option
from netspec.data_choices import Scenes


@click.command(epilog="Example: netspec data resnet --out digits --split test")
@click.argument("spec")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder that the images are written to."
)
@set_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", help="Default: test, the held-out part.")
@click.option("--limit", type=click.IntRange(1), help="Write at most so many images.")
@click.option("--format", "form", type=click.Choice(get_args(Form)), help="How scenes are written. Default: coco.")
@told
def command(spec: str, out: Path, settings: tuple[str, ...], split: str, limit: int | None, form: Form | None) -> None:
    """Write the built-in images that SPEC is trained on: digits, or scenes of digits.

    Digits are PNG files, a folder for each class, to be predicted one by one, or trained on with `data: {folder: …}`.
    Scenes come with their boxes or masks, for `data: {coco: …}`, `voc`, `yolo` or `masks`.
    """
    recipe = load_or_exit(spec, settings).sections.get("train")
    choice = recipe.data if recipe is not None else None
    if isinstance(choice, Scenes):
        parts = digit_scenes(choice)
        data = parts.train if split == "train" else parts.test
        data = data.subset(range(len(data))[:limit])
        write_dataset(data, form or "coco", out)
        click.echo(f"{len(data)} scenes in {out}")
    elif isinstance(choice, Digits):
        if form is not None:
            raise CompilerError("--format is for scenes, and `digits` are single digits", "write `data: scenes`")
        click.echo(f"{_write_digits(choice, split, limit, out)} images in {out}")
    else:
        raise CompilerError("only the built-in `digits` and `scenes` are written; other data are files already")


def _write_digits(choice: Digits, split: str, limit: int | None, out: Path) -> int:
    images, classes = digit_images()
    train, test = digit_split(choice.test)
    chosen = (train if split == "train" else test)[:limit]
    for index in chosen:
        with whole_file(out / str(classes[index]) / f"{index:04}.png") as temporary:
            Image.fromarray(images[index]).save(temporary, format="PNG")
    return len(chosen)
