"""Image files as tensors: decoding with Pillow, and the preprocessing that the model asks for."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from runtime.errors import InputError
from runtime.metadata import ImageContract, ImagePixels, ImagePreprocess

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
MODES = {1: "L", 3: "RGB"}
# Pillow knows more formats; some of them (EPS) start another program to be drawn, and few were ever fed to a network.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def read_image(path: Path, contract: ImageContract) -> np.ndarray:
    """The image at `path` as the model takes it: prepared, float32 [channels, height, width], or as pixels, uint8
    [height, width, channels].

    The camera's orientation is applied, transparent pixels lie on white, 16-bit pixels are reduced to 8 bits, and of
    several frames the first one counts.

    Raises:
        InputError: the file is missing, no image, damaged, of an unusual pixel format, or absurdly large.
    """
    image = _decode(path, MODES[contract.channels])
    if isinstance(contract, ImagePixels):
        return np.asarray(image).reshape(image.height, image.width, contract.channels)
    return prepare(image, contract)


def prepare(image: Image.Image, contract: ImagePreprocess) -> np.ndarray:
    """An image of mode L or RGB, resized and normalized: float32 [channels, height, width]."""
    if contract.size is not None:
        height, width = contract.size
        image = image.resize((width, height), FILTERS[contract.resize])
    pixels = np.asarray(image).reshape(image.height, image.width, contract.channels)
    return np.ascontiguousarray(contract.normalized(pixels).transpose(2, 0, 1))


def _decode(path: Path, mode: str) -> Image.Image:
    """The file's pixels in `mode`, L or RGB, 8 bits each."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns of an image of 90 to 180 million pixels; over that it refuses by itself.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
                    raise ValueError("its pixels have 32 bits and no known range")
                return _to_mode(ImageOps.exif_transpose(image), mode)
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(
            f"{path} is no image", help=f"the formats read are {known}; .npy and .npz hold arrays"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path} has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from None
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory", help="name the files in it") from None
    except Exception as error:  # damaged files make Pillow's decoders fail in many ways
        raise InputError(f"cannot read the image {path}: {error}") from None


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured)
    # Pillow reaches some colour spaces (CIELAB) through RGB only, or not at all: then it raises ValueError.
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16-bit pixels (mode I;16, or I in older Pillows) as one of 8 bits; Pillow would clip them."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
