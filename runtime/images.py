"""Image files as tensors: decoding with Pillow, and the preprocessing that the model asks for."""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runtime.errors import InputError
from runtime.metadata import ImageContract, ImagePixels, ImagePreprocess
from runtime.model_path import refuse_named_pipe

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
MODES = {1: "L", 3: "RGB"}
# Pillow knows more formats; some of them (EPS) start another program to be drawn, and few were ever fed to a network.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_WARNINGS = threading.Lock()


def read_image(path: Path, contract: ImageContract) -> np.ndarray:
    """The image at `path` as the model takes it: see `as_input`, and `decode` for what is read and refused."""
    return as_input(decode(path, str(path), contract.channels), contract)


def as_input(image: Image.Image, contract: ImageContract) -> np.ndarray:
    """A decoded image as the model takes it: prepared, float32 [channels, height, width], or as pixels, uint8 [height,
    width, channels]."""
    return pixels_of(image) if isinstance(contract, ImagePixels) else prepare(image, contract)


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an image of mode L or RGB, uint8 [height, width, channels]."""
    return np.asarray(image).reshape(image.height, image.width, len(image.getbands()))


def prepare(image: Image.Image, contract: ImagePreprocess) -> np.ndarray:
    """An image of mode L or RGB, resized and normalized: float32 [channels, height, width]."""
    if contract.size is not None:
        height, width = contract.size
        image = image.resize((width, height), FILTERS[contract.resize])
    return np.ascontiguousarray(contract.normalized(pixels_of(image)).transpose(2, 0, 1))


def decode(source: Path | bytes | memoryview, name: str, channels: int) -> Image.Image:
    """An image file, or the bytes of one, as 8 bits of grey (1 channel) or red, green and blue (3) each.

    The camera's orientation is applied, transparent pixels lie on white, 16-bit pixels are reduced to 8 bits, and of
    several frames the first one counts.

    Raises:
        InputError: it, called `name`, is missing, no image, damaged, of an unusual pixel format, or absurdly large.
    """
    with _opened(source, name) as image:
        image.load()
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ValueError("its pixels have 32 bits and no known range")
        return _to_mode(ImageOps.exif_transpose(image), MODES[channels])


def pixel_count(source: Path | bytes | memoryview, name: str) -> int:
    """How many pixels an image says that it has, before any of them is decoded; raises what `decode` does."""
    with _opened(source, name) as image:
        return image.width * image.height


@contextlib.contextmanager
def _opened(source: Path | bytes | memoryview, name: str) -> Iterator[Image.Image]:
    """The image, of which nothing is decoded yet; whatever goes wrong while it is entered becomes an InputError."""
    if isinstance(source, Path):
        refuse_named_pipe(source)
    try:
        with _open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            yield image
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(
            f"{name} is no image", help=f"the formats read are {known}; .npy and .npz hold arrays"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{name} has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from None
    except FileNotFoundError:
        raise InputError(f"there is no file {name}") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a directory", help="name the files in it") from None
    except Exception as error:  # damaged files make Pillow's decoders fail in many ways
        raise InputError(f"cannot read {name} as an image: {error}") from None


def _open(file: Path | io.BytesIO) -> Image.Image:
    """Pillow's image, with its warning of 90 to 180 million pixels as an error; over that it refuses by itself."""
    # What is done with a warning is decided for the whole process: one thread at a time may change it and put it back.
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file, formats=FORMATS)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured)
    # Pillow reaches some colour spaces (CIELAB) through RGB only, or not at all: then it raises ValueError.
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16-bit pixels (mode I;16, or I in older Pillows) as one of 8 bits; Pillow would clip them.

    A value may stand for what is transparent; there it is white.
    """
    pixels = np.asarray(image)
    return Image.fromarray(np.where(pixels == image.info.get("transparency"), 255, pixels >> 8).astype(np.uint8))
