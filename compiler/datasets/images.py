"""Image files as arrays: decoded when they are asked for, and kept as long as there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from compiler.datasets.sample import Array, SampleError

MAX_PIXELS = 8_000 * 8_000
CACHE_BYTES = 2 * 1024**3
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


class Cache:
    """Arrays by key, the ones least lately used given up for new ones. Safe for threads.

    Attributes:
        limit: how many bytes are kept at most; what needs more than a quarter of it alone isn't kept.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Array, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
        """The arrays of a key, made where they are not at hand. They are shared, and therefore made read-only."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        arrays = make()
        for array in arrays:
            array.setflags(write=False)
        size = _bytes(arrays)
        if 4 * size > self.limit:
            return arrays
        with self._lock:
            if key not in self._kept:
                self._kept[key] = arrays
                self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= _bytes(self._kept.popitem(last=False)[1])
        return arrays


def _bytes(arrays: tuple[Array, ...]) -> int:
    return sum(array.nbytes for array in arrays)


def read_image(path: Path, stated: tuple[int, int] | None = None) -> Array:
    """An image, H × W × 3, turned as its EXIF data say.

    Args:
        stated: the width and height that its annotations are about. Where these are the size of the image as it is
            stored, and not as it is turned, it is left as it is stored.

    Raises:
        SampleError: there is none, it is damaged, too large, or of another size than stated.
    """
    image = _opened(path)
    with image:
        try:
            turned = ImageOps.exif_transpose(image) if stated != image.size or _is_square(image) else image
            pixels = np.array(turned.convert("RGB"))
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise SampleError(path, f"`{path}` is a damaged image: {_reason(error)}") from None
    size = (pixels.shape[1], pixels.shape[0])
    if stated is not None and size != stated:
        message = f"`{path}` is {size[0]} × {size[1]}, its annotations are for {stated[0]} × {stated[1]}"
        raise SampleError(path, message, "annotate the image as it is, or put the one back that was annotated")
    return pixels


def look_at(path: Path) -> None:
    """Opens an image as far as its size stands, so that what is no image is told before anything is trained.

    Raises:
        SampleError: there is none, it is damaged there, or too large.
    """
    _opened(path).close()


def read_mask(path: Path) -> Array:
    """The numbers of an image with one channel or a palette, H × W.

    Raises:
        SampleError: there is none, it is damaged, too large, or in colours.
    """
    image = _opened(path)
    with image:
        if image.mode not in ("1", "L", "P", "I;16", "I"):
            message = f"`{path}` is in colours ({image.mode}), and a mask has one number for each pixel"
            raise SampleError(path, message, "save it with one channel, or with a palette")
        try:
            numbers = np.array(image)
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise SampleError(path, f"`{path}` is a damaged image: {_reason(error)}") from None
    if numbers.max(initial=0) > 255 or numbers.min(initial=0) < 0:
        raise SampleError(path, f"`{path}` has the number {numbers.max()}; masks have numbers from 0 to 255")
    return numbers.astype(np.uint8)


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise SampleError(path, f"there is no image `{path}`") from None
    except Image.DecompressionBombError:
        raise SampleError(path, f"`{path}` has more than {MAX_PIXELS:,} pixels, which is refused") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise SampleError(path, f"`{path}` can't be read as an image: {_reason(error)}") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        message = f"`{path}` has {image.width} × {image.height} pixels; more than {MAX_PIXELS:,} are refused"
        raise SampleError(path, message, "make it smaller, or cut it into several")
    return image


def _is_square(image: Image.Image) -> bool:
    return image.width == image.height


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or something else"
    return getattr(error, "strerror", None) or str(error) or "it is damaged"
