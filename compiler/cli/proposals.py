"""`netspec proposals`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from compiler.cli.common import told
from compiler.datasets.folders import shown
from compiler.datasets.sample import Faults
from compiler.proposals import Mode, Search, image_files, opencv, searched, write_proposals
from netspec.data_choices import OnError


@click.command(epilog="Example: netspec proposals VOC2007/JPEGImages -o proposals.npz")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("proposals.npz"), show_default=True,
              help="The file that is written.")  # fmt: skip
@click.option("--mode", type=click.Choice(get_args(Mode)), default="fast", show_default=True,
              help="How many ways of grouping are tried: fast 8, quality 80, single 1.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="Regions an image, at most.")
@click.option("--min-size", type=click.FloatRange(0), default=8.0, show_default=True,
              help="The least width and height of a region, in pixels.")  # fmt: skip
@click.option("--side", type=click.IntRange(16, 8000), default=500, show_default=True,
              help="Images with a longer side are searched at this one.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
              help="Of the ranking, which is partly drawn.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), default=2, show_default=True, help="Images searched at a time.")
@click.option("--on-error", type=click.Choice(get_args(OnError)), default="refuse", show_default=True,
              help="Whether an image that can't be read ends it, or is left out and told.")  # fmt: skip
@told
def command(
    images: tuple[Path, ...],
    out: Path,
    mode: Mode,
    count: int,
    min_size: float,
    side: int,
    seed: int,
    jobs: int,
    on_error: OnError,
) -> None:
    """Find regions that may hold an object in IMAGES, files or folders of them, by selective search.

    They are the second input of R-CNN, SPPnet and Fast R-CNN: for training with `data: {…, proposals: FILE.npz}`,
    and for `netspec predict --proposals FILE.npz`.
    """
    opencv()
    files = image_files(images)
    search, faults = Search(mode, count, min_size, side, seed), Faults(on_error)
    results = shown(searched(files, search, faults, jobs), len(files), "searching")
    written, regions = write_proposals(results, out)
    for message in faults.skipped.values():
        click.echo(f"left out: {message}", err=True)
    click.echo(f"{regions:,} regions of {written:,} images in {out}")
