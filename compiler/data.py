"""The data that a spec is trained on: handwritten digits, folders of images, and NumPy arrays."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from sklearn.model_selection import train_test_split
from torch import Tensor

from compiler.batches import Batch, Data
from compiler.datasets.batching import picture_data
from compiler.datasets.digits import digit_images, digit_split
from compiler.datasets.folders import SPLIT_SEED, located
from compiler.errors import CompilerError
from compiler.onnx_graph import image_preprocessing
from compiler.targets import check_labels, class_count, classifies, fit
from netspec.choices import Choice, Digits, Folder, Npz
from netspec.data_choices import Pictures
from netspec.network import Network
from netspec.ops.table import Embedding
from netspec.outputs import is_image

Array = NDArray[Any]
ARRAYS = ("x", "y", "x_test", "y_test")
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Decoded images are kept up to this many bytes; beyond it they are decoded anew in every epoch.
CACHE_BYTES = 2 * 1024**3

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True, slots=True)
class ArraySplit:
    """Samples whose targets stand ready; a `compiler.batches.Split`.

    Attributes:
        targets: class indices (int64), or values of any shape (float32), one for each sample.
        names: a name for each sample: a file's path, or its number.
        read: gives the inputs of the samples at these indices, N × …, of the input's type; varied as of an epoch, where
            one is given.
    """

    targets: Tensor
    names: Sequence[str]
    read: Callable[[Tensor, int | None], Tensor]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor, epoch: int | None = None) -> Batch:
        """The samples at these indices."""
        names = tuple(self.names[index] for index in indices.tolist())
        return Batch((self.read(indices, epoch),), self.targets[indices], names)


def load_data(network: Network, choice: Choice, base: Path) -> Data:
    """The data that a spec names, made to fit its input.

    Args:
        base: the folder against which relative paths are taken: the spec's.

    Raises:
        CompilerError: it isn't there, is damaged, holds NaN, or does not fit the network.
    """
    if isinstance(choice, Pictures):
        return picture_data(network, choice, base)
    if len(network.inputs) != 1:
        raise CompilerError(f"training takes networks with one input, `{network.name}` has {len(network.inputs)}")
    if isinstance(choice, Digits):
        return _digits(network, choice)
    if isinstance(choice, Folder):
        return _folder(network, choice, located(base, choice.path))
    assert isinstance(choice, Npz)
    return _npz(network, choice, located(base, choice.path))


# -- images


class _ImageReader:
    """From images to the network's input: channels, size and normalisation as the exported file states them."""

    def __init__(self, network: Network, what: str) -> None:
        name = network.inputs[0]
        shape = network.layer(name)["output"].shape
        if not is_image(network, name):
            shown = " × ".join(str(size) for size in network.concrete(shape))
            raise CompilerError(
                f"{what} need an input N × 1 or 3 × height × width; `{name}` is {shown}",
                "give the input such a shape",
            )
        recipe = network.sections["train"]
        self.augment, self.seed = recipe.augment, recipe.numbers.seed
        self.steps = image_preprocessing(network, name)
        if self.steps["size"] is None:
            raise CompilerError(
                f"the size of `{name}` is free, and images of a batch are of one size",
                "give its height and width under `sizes`",
            )
        self.mean = torch.tensor(self.steps["mean"]).reshape(-1, 1, 1)
        self.std = torch.tensor(self.steps["std"]).reshape(-1, 1, 1)

    def resized(self, image: Image.Image) -> Array:
        """An image as C × H × W bytes."""
        image = image.convert("L" if self.steps["channels"] == 1 else "RGB")
        height, width = self.steps["size"]
        if image.size != (width, height):
            image = image.resize((width, height), _FILTERS[self.steps["resize"]])
        pixels = np.asarray(image)
        # In rows of memory as PyTorch has them: some of its CPU kernels write past the end of others.
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def inputs(self, pixels: Tensor, chosen: Tensor, epoch: int | None) -> Tensor:
        """N × C × H × W bytes, of the samples of these numbers, as the network's input; varied as of an epoch."""
        if epoch is not None and self.augment is not None:
            from compiler.datasets.augment import varied_pixels  # Kornia is for those that use it

            pixels = varied_pixels(pixels, self.augment, self.seed, epoch, chosen.tolist())
        scale: float = self.steps["scale"]
        return (pixels * scale - self.mean) / self.std


def _digits(network: Network, choice: Digits) -> Data:
    reader = _ImageReader(network, "digits")
    labels = tuple(str(digit) for digit in range(10))
    check_labels(network, labels)
    images, classes = digit_images()
    pixels = torch.from_numpy(np.stack([reader.resized(Image.fromarray(image)) for image in images]))
    targets = torch.from_numpy(classes)

    def split(indices: Array) -> ArraySplit:
        own = pixels[torch.from_numpy(indices)]
        names = [str(index) for index in indices]
        return ArraySplit(
            targets[torch.from_numpy(indices)], names, lambda chosen, epoch: reader.inputs(own[chosen], chosen, epoch)
        )

    train, test = digit_split(choice.test)
    return Data(split(train), split(test), labels)


def _folder(network: Network, choice: Folder, path: Path) -> Data:
    if not path.is_dir():
        raise CompilerError(f"there is no folder `{path}`", "`folder:` is taken relative to the file that says it")
    reader = _ImageReader(network, "folders of images")
    parted = (path / "train").is_dir() and (path / "test").is_dir()
    labels, files, classes = _class_files(path / "train" if parted else path)
    check_labels(network, labels)
    if parted:
        test_labels, test_files, test_classes = _class_files(path / "test")
        strange = sorted(set(test_labels) - set(labels))
        if strange:
            raise CompilerError(f"`{path / 'test'}` has classes that `train` has not: {', '.join(strange[:5])}")
        order = np.array([labels.index(label) for label in test_labels])
        test_classes = order[test_classes]
    else:
        train, test = _held_out(classes, choice.test, path, labels)
        test_files, test_classes = [files[i] for i in test], classes[test]
        files, classes = [files[i] for i in train], classes[train]
    return Data(_image_split(reader, files, classes), _image_split(reader, test_files, test_classes), tuple(labels))


def _held_out(classes: Array, share: float, where: Path, labels: Sequence[str]) -> tuple[Array, Array]:
    """Indices of the training and the held-out samples; every class has its share in both."""
    counts = np.bincount(classes)
    present, held = np.count_nonzero(counts), math.ceil(share * len(classes))
    single = np.flatnonzero(counts == 1)
    if len(single):
        whose = f" of the class `{labels[single[0]]}`" if labels else ""
        message = f"`{where}` has one sample{whose}, which can't be both trained on and held out"
        raise CompilerError(message, "add samples, or give held-out ones apart")
    if min(held, len(classes) - held) < present:
        message = f"`test: {share:g}` holds {held} of {len(classes)} samples in `{where}` out"
        raise CompilerError(message, f"each part needs one of each class, {present} at least: give another `test`")
    indices = np.arange(len(classes))
    train, test = train_test_split(indices, test_size=share, random_state=SPLIT_SEED, stratify=classes)
    return np.sort(train), np.sort(test)


def _class_files(path: Path) -> tuple[list[str], list[Path], Array]:
    """Class names, the image files, and each file's class."""
    labels = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files: list[Path] = []
    classes: list[int] = []
    for index, label in enumerate(labels):
        own = sorted(file for file in (path / label).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not own:
            raise CompilerError(f"the class folder `{path / label}` holds no images")
        files += own
        classes += [index] * len(own)
    if not labels:
        raise CompilerError(f"`{path}` holds no class folders", "put the images of each class into a folder of its own")
    return labels, files, np.array(classes, dtype=np.int64)


def _image_split(reader: _ImageReader, files: list[Path], classes: Array) -> ArraySplit:
    channels, (height, width) = reader.steps["channels"], reader.steps["size"]
    keep = len(files) * channels * height * width <= CACHE_BYTES
    cache: dict[int, Array] = {}
    pool = ThreadPoolExecutor(max_workers=4)  # Pillow decodes without holding the interpreter

    def decode(index: int) -> Array:
        if index in cache:
            return cache[index]
        try:
            with Image.open(files[index]) as image:
                pixels = reader.resized(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError:
            raise CompilerError(f"`{files[index]}` has more pixels than an image may have") from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged, or something else"
            raise CompilerError(f"`{files[index]}` can't be read as an image: {reason}") from None
        if keep:
            cache[index] = pixels
        return pixels

    def read(chosen: Tensor, epoch: int | None) -> Tensor:
        return reader.inputs(torch.from_numpy(np.stack(list(pool.map(decode, chosen.tolist())))), chosen, epoch)

    return ArraySplit(torch.from_numpy(classes), [str(file) for file in files], read)


# -- arrays


def _npz(network: Network, choice: Npz, path: Path) -> Data:
    arrays = _read_npz(path)
    parted = "x_test" in arrays
    pairs = {"x": "y", "x_test": "y_test"} if parted else {"x": "y"}
    for x_name, y_name in pairs.items():
        _check_samples(network, arrays, x_name, y_name, path)
        arrays[x_name] = _as_read(network, arrays[x_name], x_name, path)
    targets = fit(network, {y_name: arrays[y_name] for y_name in pairs.values()})
    labels = tuple(str(number) for number in range(class_count(network))) if classifies(network) else ()
    x, y = arrays["x"], targets["y"]
    if parted:
        return Data(_array_split(x, y), _array_split(arrays["x_test"], targets["y_test"]), labels)
    classes = y if labels else np.zeros(len(y), dtype=np.int64)
    train, test = _held_out(classes, choice.test, path, labels)
    return Data(_array_split(x[train], y[train]), _array_split(x[test], y[test]), labels)


def _read_npz(path: Path) -> dict[str, Array]:
    """The arrays `x` and `y`, and `x_test` and `y_test` where there are such."""
    if not path.exists():
        raise CompilerError(f"there is no file `{path}`", "`npz:` is taken relative to the file that says it")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise CompilerError(f"`{path}` holds one array without a name", "save it with np.savez(path, x=…, y=…)")
            _check_names(file.files, path)
            return {name: _member(file, name, path) for name in ARRAYS if name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or something else"
        raise CompilerError(f"`{path}` can't be read as a NumPy .npz file: {reason}") from None


def _check_names(names: Sequence[str], path: Path) -> None:
    for name, other in (("x", "y"), ("y", "x"), ("x_test", "y_test"), ("y_test", "x_test")):
        needed = name in ("x", "y") or other in names
        if needed and name not in names:
            raise CompilerError(f"`{path}` has no array `{name}`", f"it has {', '.join(names) or 'none'}")


def _member(file: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        array: Array = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        help = "save an array of numbers: of samples of one size"
        raise CompilerError(f"`{name}` in `{path}` holds Python objects, which are never loaded", help) from None
    return array


def _check_samples(network: Network, arrays: dict[str, Array], x_name: str, y_name: str, path: Path) -> None:
    """Refuses arrays that are no samples with targets: other shapes than the input's, no numbers, NaN."""
    x, y = arrays[x_name], arrays[y_name]
    wanted = network.concrete(network.layer(network.inputs[0])["output"].shape)
    fits = x.ndim == len(wanted) and all(
        isinstance(w, str) or w == s for w, s in zip(wanted[1:], x.shape[1:], strict=True)
    )
    if not fits:
        shown = " × ".join(str(size) for size in x.shape)
        raise CompilerError(
            f"`{x_name}` in `{path}` is {shown}; the network reads {' × '.join(str(size) for size in wanted)}"
        )
    if y.ndim == 0 or len(x) != len(y) or not len(x):
        found = len(y) if y.ndim else 1
        raise CompilerError(f"`{path}` has {len(x)} samples in `{x_name}` and {found} in `{y_name}`")
    for name, array in ((x_name, x), (y_name, y)):
        if array.dtype.kind not in "biuf":
            raise CompilerError(f"`{name}` in `{path}` holds {array.dtype}, not numbers")
        finite = np.isfinite(array)
        if not finite.all():
            where = ", ".join(str(int(index)) for index in np.argwhere(~finite)[0])
            raise CompilerError(
                f"`{name}` in `{path}` holds {np.count_nonzero(~finite):,} values that are NaN or infinite",
                f"the first is {name}[{where}]; remove these samples or fill them in",
            )


def _as_read(network: Network, x: Array, name: str, path: Path) -> Array:
    """Samples as the network's input takes them: whole numbers stay whole, within what a layer looks up by them."""
    source = network.inputs[0]
    dtype = network.layer(source)["output"].dtype
    with np.errstate(invalid="ignore"):  # what does not fit is told below
        converted: Array = x.astype(dtype)
    if dtype != "float32" and not (converted == x).all():
        message = f"`{name}` in `{path}` holds values that are no {dtype}, which `{source}` reads"
        raise CompilerError(message, "save whole numbers, or give the input another `dtype`")
    for _, layer in network.layers():
        op = layer["op"]
        if isinstance(op, Embedding) and source in layer["inputs"] and not _within(converted, op.entries):
            message = f"`{name}` in `{path}` goes from {converted.min()} to {converted.max()}"
            raise CompilerError(message, f"the embedding looks up 0 to {op.entries - 1}")
    return converted


def _within(numbers: Array, count: int) -> bool:
    return bool((numbers >= 0).all() and (numbers < count).all())


def _array_split(x: Array, y: Array) -> ArraySplit:
    inputs = torch.from_numpy(x)
    return ArraySplit(torch.from_numpy(y), [str(index) for index in range(len(y))], lambda chosen, _: inputs[chosen])
