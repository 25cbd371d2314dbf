"""Specs to start from: `netspec init`."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from netspec.diagnostics import Diagnostic
from netspec.loading import check, check_source
from netspec.source import Source
from netspec.zoo import find_spec, zoo

# What each starter is for, by the file that it is made from.
TASKS = {
    "digits": "a small network on handwritten digits, to try things out with",
    "classification": "a classifier of one's own images",
}
_LIKE = "like"
_COLOUR = 3
# The mean and standard deviation of ImageNet's pixels, which weights of well-known networks were trained with.
_IMAGENET = ("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]")


class NoStarter(Exception):
    """Why there can be no such starter; `diagnostics` says what is wrong with a spec that it is built on."""

    def __init__(self, message: str, help: str = "", diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.diagnostics = diagnostics


@dataclass(frozen=True)
class Images:
    """A folder with a folder of images for each class, and the number of these; 2 where it is not there yet."""

    folder: Path
    classes: int = 2


def find_images(folder: Path) -> Images:
    """The images in a folder.

    Raises:
        NoStarter: it holds fewer than two folders.
    """
    if not folder.is_dir():
        raise NoStarter(f"there is no folder `{folder}`", "make it, with a folder of images for each class in it")
    parted = (folder / "train").is_dir() and (folder / "test").is_dir()
    place = folder / "train" if parted else folder
    classes = sum(entry.is_dir() and not entry.name.startswith(".") for entry in place.iterdir())
    if classes < 2:
        raise NoStarter(
            f"`{place}` holds {classes} folders, and a classifier needs two", "make a folder for each class"
        )
    return Images(folder, classes)


def starter(path: Path, task: str, images: Images, like: str | None = None) -> str:
    """The text of a spec to start from.

    Args:
        path: where it is to be written; its paths are relative to that.
        task: one of `TASKS`.
        images: what it is to be trained on.
        like: the spec that it extends, a file or a name in the zoo, if any.

    Raises:
        NoStarter: `like` is no valid spec, or none for classifying images.
    """
    run = Path("runs") / path.stem
    shown = os.path.relpath(images.folder, path.parent)
    values = {
        "file": shlex.quote(str(path)),
        "run": shlex.quote(str(run)),
        "folder": shown,
        "path": _quoted(shown),
        "classes": str(images.classes),
    }
    if like is not None:
        values |= _base(like, path)
    template = files("netspec").joinpath("starters", f"{_LIKE if like else task}.yaml").read_text(encoding="utf-8")
    text = Template(template).substitute(values)
    checked = check_source(Source(str(path), text))
    if not checked.valid:
        raise NoStarter(f"`{like}` can't be extended so", diagnostics=checked.diagnostics)
    return text


def _base(like: str, path: Path) -> dict[str, str]:
    """What the starter says of the spec that it extends."""
    checked = check(like)
    network = checked.network
    if network is None:
        raise NoStarter(f"`{like}` is no network to build on", diagnostics=checked.obstacles)
    if "classes" not in network.arguments:
        raise NoStarter(f"`{like}` has no argument `classes`", "build on a classifier: `netspec list` shows the zoo")
    shape = network.layer(network.inputs[0])["output"].shape
    if len(network.inputs) > 1 or len(shape) != 4:
        raise NoStarter(f"`{like}` does not read one image", "build on a classifier: `netspec list` shows the zoo")
    mean, std = _IMAGENET if shape[1] == _COLOUR else ("0.5", "0.25")
    others = [f"`{name}`" for name in network.arguments if name != "classes"]
    base = like if like in dict(zoo()) else os.path.relpath(find_spec(like), path.parent)
    return {
        "base": _quoted(base),
        "arguments": ", ".join(others) or "none",
        "layer": next(iter(network.outputs.values())).partition(".")[0],
        "mean": mean,
        "std": std,
    }


def _quoted(text: str) -> str:
    """A path as it stands in YAML."""
    plain = all(character.isalnum() or character in "_-./" for character in text) and not text[0].isdigit()
    escaped = text.replace("'", "''")
    return text if plain and text[0] not in "-." else f"'{escaped}'"
