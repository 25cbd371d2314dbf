"""Regions of images that may hold an object, by selective search: what R-CNN, SPPnet and Fast R-CNN look at.

Source: Uijlings et al. 2013, "Selective search for object recognition", sections 3 and 5, as OpenCV has it.
"""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compiler.datasets.images import SUFFIXES, read_image
from compiler.datasets.sample import Array, Faults, SampleError
from compiler.errors import CompilerError
from compiler.files import whole_file

Mode = Literal["fast", "quality", "single"]


@dataclass(frozen=True, slots=True)
class Search:
    """How regions are searched for.

    Attributes:
        mode: how many ways of grouping are tried: `single` one, `fast` 8, `quality` 80.
        count: how many regions an image has at most, the best ranked.
        min_size: the least width and height of a region, in pixels of the image.
        side: images with a longer side are searched at this one; Girshick et al. 2014, section 2.2, searches at 500.
        seed: of the ranking, which is partly drawn.
    """

    mode: Mode = "fast"
    count: int = 2000
    min_size: float = 8.0
    side: int = 500
    seed: int = 0


def opencv() -> Any:
    """OpenCV with its contributed modules.

    Raises:
        CompilerError: it is not installed.
    """
    try:
        cv2 = import_module("cv2")
        cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    except (ImportError, AttributeError):
        help = "pip install 'netspec[proposals]'; where another OpenCV package is installed, uninstall that one first"
        raise CompilerError("selective search needs OpenCV with its contributed modules", help) from None
    return cv2


def selective_search(image: Array, search: Search) -> Array:
    """The regions of an image H × W × 3, best ranked first: P × 4 float32, in its pixels."""
    cv2 = opencv()
    height, width = image.shape[:2]
    shrink = min(1.0, search.side / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    engine = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    engine.setBaseImage(np.ascontiguousarray(small[..., ::-1]))  # blue, green, red
    choose = {
        "single": engine.switchToSingleStrategy,
        "fast": engine.switchToSelectiveSearchFast,
        "quality": engine.switchToSelectiveSearchQuality,
    }
    choose[search.mode]()
    found = np.asarray(engine.process(), np.float32).reshape(-1, 4)  # left, top, width, height
    boxes: Array = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    boxes *= np.array([width / size[0], height / size[1]] * 2, np.float32)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) >= search.min_size]
    return ranked(boxes, search.seed)[: search.count]


def ranked(boxes: Array, seed: int) -> Array:
    """Regions in the order of v = r·i, where r is drawn from [0, 1) and i is the place of a region, the largest first.

    Source: Uijlings et al. 2013, section 5, where i is the place in the hierarchy. OpenCV's own order is another at
    every call.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    boxes = boxes[np.lexsort((*boxes.T, -areas))]
    drawn = np.random.default_rng(seed).random(len(boxes))
    return boxes[np.argsort(drawn * np.arange(1, len(boxes) + 1), kind="stable")]


def image_files(paths: Iterable[Path]) -> dict[str, Path]:
    """The images that are named, and those in the folders that are named, by their file names.

    Raises:
        CompilerError: there is none, or two have one name, under which their regions would be kept.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise CompilerError(f"there is no file or folder `{path}`")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [file for file in inside if file == path or file.suffix.lower() in SUFFIXES]
        if not files:
            raise CompilerError(f"`{path}` holds no images")
        for file in files:
            other = found.setdefault(file.name, file)
            if other != file:
                help = "regions are kept by file name: give each image a name of its own, or write several files"
                raise CompilerError(f"`{other}` and `{file}` have one name", help)
    return found


def searched(
    files: Mapping[str, Path], search: Search, faults: Faults, jobs: int
) -> Iterator[tuple[str, Array] | None]:
    """The regions of each image by its name, in order; None for one that is left out. Few are in memory at a time.

    Raises:
        SampleError: an image can't be read, and none are to be left out.
    """

    refused = opencv().error

    def work(path: Path) -> Array | SampleError:
        try:
            return selective_search(read_image(path), search)
        except SampleError as error:
            return error
        except refused as error:
            return SampleError(path, f"selective search fails on `{path}`: {' '.join(str(error).split())[:200]}")

    waiting: deque[tuple[str, Future[Array | SampleError]]] = deque()
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        for name, path in files.items():
            waiting.append((name, pool.submit(work, path)))
            if len(waiting) > jobs:
                yield _taken(*waiting.popleft(), faults)
        while waiting:
            yield _taken(*waiting.popleft(), faults)
    finally:
        pool.shutdown(cancel_futures=True)


def _taken(name: str, future: Future[Array | SampleError], faults: Faults) -> tuple[str, Array] | None:
    result = future.result()
    if isinstance(result, SampleError):
        faults.met(result)
        return None
    return name, result


def write_proposals(found: Iterable[tuple[str, Array] | None], path: Path) -> tuple[int, int]:
    """Writes regions as they come, an array for each image under its name; returns how many of both there are.

    Raises:
        CompilerError: the file can't be written.
    """
    images = regions = 0
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, boxes in filter(None, found):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, boxes, allow_pickle=False)
            images, regions = images + 1, regions + len(boxes)
    return images, regions
