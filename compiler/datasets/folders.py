"""What the formats of files have in common: where files are, which images belong to which part, and bad images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from compiler.datasets.images import SUFFIXES
from compiler.datasets.sample import Dataset, Faults, Parts, SampleError
from compiler.errors import CompilerError
from netspec.data_choices import Masks, Voc, YoloText

SPLIT_SEED = 0  # the split belongs to the data, not to a run: runs with other seeds are measured on the same samples
MAX_BYTES = 64 * 1024**2  # of a text file about one image, or of a list of images
SHOWN_AFTER = 1.0  # seconds after which a progress bar appears

T = TypeVar("T")
R = TypeVar("R")


class Part(NamedTuple):
    """The samples of a folder, and all the images that it holds, also those left out, by names without suffix."""

    data: Dataset
    found: list[str]


def located(base: Path, path: str) -> Path:
    """A path as written, relative to a folder.

    Raises:
        CompilerError: it is in the folder of a user who is not known.
    """
    try:
        return base / Path(path).expanduser()
    except RuntimeError:  # `~name/…`
        raise CompilerError(f"`{path}` is in the folder of a user who is not known here") from None


def folder(path: Path, what: str) -> Path:
    """A folder that has to be there.

    Raises:
        CompilerError: it is not.
    """
    if not path.is_dir():
        raise CompilerError(f"there is no folder `{path}`, {what}")
    return path


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        CompilerError: it can't be read, is too large, or no UTF-8.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CompilerError(f"`{path}` is larger than {MAX_BYTES // 1024**2} MiB")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CompilerError(f"`{path}` is no text in UTF-8: byte {error.start}") from None
    except OSError as error:
        raise CompilerError(f"`{path}` can't be read: {error.strerror or error}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something.

    Raises:
        CompilerError: it can't be read, or holds nothing.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise CompilerError(f"`{path}` is empty")
    return found


def images_of(path: Path) -> dict[str, Path]:
    """The image files of a folder and of those below it, by their paths in it without the suffix, in order.

    Raises:
        CompilerError: there is no such folder, no image, or two images differ in their suffix alone.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder(path, "which should hold the images").rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            stem = file.relative_to(path).with_suffix("").as_posix()
            if stem in found:
                raise CompilerError(f"`{found[stem]}` and `{file}` have one name", "give each image a name of its own")
            found[stem] = file
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise CompilerError(f"`{path}` holds no images", f"files that end in {kinds} are taken for images")
    return found


def file_names(names: Sequence[str], images: Mapping[str, Path]) -> list[str]:
    """Images as they are called in their folder, from names without suffix."""
    return [f"{name}{images[name].suffix}" for name in names]


def listed(path: Path, known: Sequence[str]) -> list[str]:
    """The images that a file lists, one a line: names with or without folder and suffix; more words are not read.

    Raises:
        CompilerError: the file can't be read, or names an image that is not there, or one twice.
    """
    by_stem = {name.rpartition("/")[2]: name for name in known} | {name: name for name in known}
    found: dict[str, str] = {}
    for line in read_lines(path):
        word = line if Path(line).suffix.lower() in SUFFIXES else line.split()[0]
        written = Path(word)
        stem = written.with_suffix("").as_posix() if written.suffix.lower() in SUFFIXES else word
        name = by_stem.get(stem) or by_stem.get(stem.rpartition("/")[2])
        if name is None:
            raise CompilerError(f"`{path}` lists `{word}`, which is not there")
        if name in found:
            raise CompilerError(f"`{path}` lists `{word}` twice")
        found[name] = word
    return list(found)


def places(root: Path) -> list[Path]:
    """The folders that hold a data set's parts, `train` and `test`; its own where it has no such."""
    parts = [root / "train", root / "test"]
    return parts if all(part.is_dir() for part in parts) else [root]


def divided(root: Path, choice: Voc | YoloText | Masks, sets: list[Part], faults: Faults) -> Parts:
    """A data set in its parts: its folders `train` and `test`, what its lists say, or a share that is held out.

    Args:
        sets: what stands in each of the `places`.

    Raises:
        CompilerError: a part is empty.
    """
    train, test = choice.train, choice.test
    if len(sets) == 2:
        if train is not None or isinstance(test, str):
            message = f"`{root}` has folders `train` and `test`, and lists are given too"
            raise CompilerError(message, "leave `train` and `test` out")
        kept, held = (some_of(one.data, range(len(one.data)), root, faults) for one in sets)
        return Parts(kept, held, faults)
    (whole,) = sets
    data = whole.data
    numbers = {Path(name).with_suffix("").as_posix(): index for index, name in enumerate(data.names)}

    def of(name: str) -> list[int]:
        return [numbers[name] for name in listed(located(root, name), whole.found) if name in numbers]

    chosen = of(train) if train is not None else list(range(len(data)))
    if not isinstance(test, str):
        return held_out(data.subset(chosen), test, root, faults)
    held_names = of(test)
    both = set(chosen) & set(held_names)
    if train is not None and both:
        message = f"`{data.names[min(both)]}` is in both `{train}` and `{test}`"
        raise CompilerError(message, "hold other images out than those that are trained on")
    kept_names = [index for index in chosen if index not in both]
    return Parts(some_of(data, kept_names, root, faults), some_of(data, held_names, root, faults), faults)


def asked_for(root: Path, choice: Masks, known: Sequence[str]) -> list[str]:
    """The images that a data set's lists name, where there is one for each part; else all of them.

    Raises:
        CompilerError: a list can't be read, or names an image that is not there.
    """
    if choice.train is None or not isinstance(choice.test, str):
        return list(known)
    names = [name for file in (choice.train, choice.test) for name in listed(located(root, file), known)]
    return list(dict.fromkeys(names))


def some_of(data: Dataset, indices: Sequence[int], root: Path, faults: Faults) -> Dataset:
    """The samples of these numbers.

    Raises:
        CompilerError: there are none.
    """
    if not indices:
        reason = next(iter(faults.skipped.values()), "")
        raise CompilerError(
            f"a part of `{root}` has no images that can be used{f'; {reason}' if reason else ''}",
            "add images, or hold another share or list of them out: `test: …`",
        )
    return data.subset(indices)


def held_out(data: Dataset, share: float, root: Path, faults: Faults) -> Parts:
    """A data set with a share held out, always the same samples.

    Raises:
        CompilerError: there are too few samples for two parts.
    """
    if len(data) == 1:
        raise CompilerError(f"`{root}` has one image, which can't be both trained on and held out", "add images")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(data))
    held = min(max(1, round(share * len(data))), len(data) - 1)
    train, test = sorted(order[held:].tolist()), sorted(order[: max(held, 0)].tolist())
    return Parts(some_of(data, train, root, faults), some_of(data, test, root, faults), faults)


def class_names(given: str | tuple[str, ...], root: Path) -> tuple[str, ...]:
    """Names of classes, from a list or from a file of a data set, one a line.

    Raises:
        CompilerError: the file can't be read, or a name stands twice.
    """
    names: Sequence[str] = given
    if isinstance(given, str):
        path = located(root, given)
        if not path.exists():
            help = "write the names into it, one a line, or give them here: `[cat, dog]`"
            raise CompilerError(f"there is no list of classes `{path}`", help)
        names = read_lines(path)
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise CompilerError(f"the class `{twice}` is named twice", "give each class a name of its own")
    return tuple(names)


def each(items: Sequence[T], work: Callable[[T], R | SampleError], faults: Faults, what: str) -> list[R]:
    """What is made of each item, in order, in threads; those that fail are taken note of and left out.

    Raises:
        SampleError: one fails, and none is to be left out.
    """

    def attempt(item: T) -> R | SampleError:
        try:
            return work(item)
        except SampleError as error:
            return error

    found: list[R] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for result in shown(pool.map(attempt, items), len(items), what):
            if isinstance(result, SampleError):
                faults.met(result)
            else:
                found.append(result)
    return found


def shown(results: Iterator[T], total: int, what: str) -> Iterator[T]:
    """The results as they come; with a progress bar on a terminal where they take more than a second."""
    begun, done = time.monotonic(), 0
    for result in results:
        yield result
        done += 1
        if time.monotonic() - begun > SHOWN_AFTER:
            break
    console = Console(stderr=True)
    yield from track(
        results, what, total=total - done, console=console, transient=True, disable=not console.is_terminal
    )
