"""Images as tensors: every pixel format that people have, and every file that is no image."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from runtime.images import read_image
from runtime.metadata import ImagePreprocess

RAW_GREY = ImagePreprocess(1, scale=1.0)
RAW_COLOUR = ImagePreprocess(3, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
RED, GREEN = (255, 0, 0), (0, 255, 0)


def saved(tmp_path: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_scale_mean_and_std_by_channel(tmp_path: Path) -> None:
    contract = ImagePreprocess(3, None, "bilinear", 1 / 255, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    tensor = read_image(saved(tmp_path, Image.new("RGB", (3, 2), (255, 0, 51))), contract)
    assert (tensor.dtype, tensor.shape) == (np.float32, (3, 2, 3))
    np.testing.assert_allclose(tensor[:, 0, 0], [1.0, -1.0, 0.1], rtol=1e-6)


def test_rows_are_height_and_columns_width(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tensor = read_image(saved(tmp_path, Image.fromarray(pixels)), RAW_GREY)
    np.testing.assert_array_equal(tensor[0], pixels)


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic"])
def test_resizing_is_pillows(tmp_path: Path, resize: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (9, 7), dtype=np.uint8)
    image = Image.fromarray(pixels)
    contract = ImagePreprocess(1, (4, 5), resize, 1.0)
    expected = np.asarray(image.resize((5, 4), Image.Resampling[resize.upper()]))
    np.testing.assert_array_equal(read_image(saved(tmp_path, image), contract)[0], expected)


def test_grey_as_colour_and_colour_as_grey(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, Image.new("L", (1, 1), 9)), RAW_COLOUR).ravel().tolist() == [9, 9, 9]
    assert read_image(saved(tmp_path, Image.new("RGB", (1, 1), (9, 9, 9))), RAW_GREY).ravel().tolist() == [9]


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), RED)
    image.putpixel((1, 0), GREEN)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: what was left comes to the top
    tensor = read_image(saved(tmp_path, image, exif=exif), RAW_COLOUR)
    assert tensor.shape == (3, 2, 1)
    assert tensor[:, 0, 0].tolist() == list(RED)
    assert tensor[:, 1, 0].tolist() == list(GREEN)


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_sixteen_bits_are_reduced_not_clipped(tmp_path: Path, name: str) -> None:
    pixels = np.array([[0, 0x1234, 0x8000, 0xFFFF]], dtype=np.uint16)
    tensor = read_image(saved(tmp_path, Image.fromarray(pixels), name), RAW_GREY)
    assert tensor[0, 0].tolist() == [0, 0x12, 0x80, 0xFF]


def test_a_grey_of_sixteen_bits_that_stands_for_what_is_transparent(tmp_path: Path) -> None:
    pixels = np.array([[0, 0x1234, 0x1235]], dtype=np.uint16)
    keyed = saved(tmp_path, Image.fromarray(pixels), transparency=0x1234)
    assert read_image(keyed, RAW_GREY).ravel().tolist() == [0, 255, 0x12]


def test_palettes_become_their_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    tensor = read_image(saved(tmp_path, image), RAW_COLOUR)
    assert tensor[:, 0, 0].tolist() == list(RED)
    assert tensor[:, 0, 1].tolist() == list(GREEN)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    transparent = saved(tmp_path, Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "rgba.png")
    assert read_image(transparent, RAW_COLOUR).ravel().tolist() == [255, 255, 255]
    half = saved(tmp_path, Image.new("LA", (1, 1), (0, 128)), "la.png")
    assert read_image(half, RAW_GREY).ravel().tolist() == [127]
    palette = Image.new("P", (1, 1))
    palette.putpalette(list(RED))
    keyed = saved(tmp_path, palette, "keyed.png", transparency=0)
    assert read_image(keyed, RAW_COLOUR).ravel().tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK"])
def test_other_pixel_formats_are_read(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (2, 2), "white").convert(mode)
    tensor = read_image(saved(tmp_path, white, "image.tiff"), RAW_COLOUR)
    assert tensor.min() == 255


EVERY_FORMAT = """
import sys
from pathlib import Path
from runtime.images import read_image
from runtime.metadata import ImagePreprocess
for path in map(Path, sys.argv[1:]):
    assert read_image(path, ImagePreprocess(1)).shape == (1, 8, 8), path
"""


def test_formats_need_no_pillow_that_was_used_before(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "white")
    paths = [saved(tmp_path, image, f"{number}.png") for number in range(300)]
    paths += [saved(tmp_path, image, f"image.{suffix}") for suffix in ("webp", "jp2", "jpg", "gif", "bmp", "ppm")]
    paths.append(saved(tmp_path, image, "two.mpo", format="MPO", save_all=True, append_images=[image]))
    for some in (paths, paths[::-1]):
        done = subprocess.run([sys.executable, "-c", EVERY_FORMAT, *some], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="32 bits and no known range"):
        read_image(saved(tmp_path, Image.new("F", (2, 2), 0.5), "float.tiff"), RAW_GREY)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    for content in (b"", b"some text", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        path = tmp_path / "fake.png"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"fake\.png is no image"):
            read_image(path, RAW_GREY)


def test_a_damaged_image(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    for name in ("image.png", "image.jpg", "image.tiff", "image.bmp"):
        path = saved(tmp_path, noise, name)
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(InputError, match=name):
            read_image(path, RAW_GREY)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*nothing\.png"):
        read_image(tmp_path / "nothing.png", RAW_GREY)
    with pytest.raises(InputError, match="is a directory"):
        read_image(tmp_path, RAW_GREY)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_bomb_is_refused(tmp_path: Path, side: int) -> None:
    bomb = saved(tmp_path, Image.new("1", (side, side)), "bomb.png")
    assert bomb.stat().st_size < 200_000
    with pytest.raises(InputError, match=r"bomb\.png has more than 89,478,485 pixels"):
        read_image(bomb, RAW_GREY)
