"""What an exporter writes into a model about its meaning: labels, preprocessing of images, postprocessing.

ONNX stores metadata as text by key. Every key is optional:

=======================  ==============================================================================================
``netspec.spec``         the YAML text of the network
``netspec.args``         a JSON object: the arguments that the network was built with
``netspec.labels``       a JSON list: the names of the classes, in the order of the output's columns
``netspec.preprocess``   a JSON object: by the name of an input, ``{"channels": 1 or 3, "size": [height, width] or
                         null, "resize": "bilinear", "nearest" or "bicubic", "scale": s, "mean": […], "std": […]}``, or
                         ``{"pixels": true, "channels": 1 or 3}`` where the model takes the pixels as they are
``netspec.postprocess``  a JSON object: by the name of an output, ``"softmax"`` for class scores, ``"none"`` for values
                         that are meant as they come
``netspec.task``         a JSON object: which outputs are boxes or a mask, see `runtime.task`
=======================  ==============================================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from runtime.errors import ModelError
from runtime.stored import Broken, broken, check_fields, json_object, json_value
from runtime.task import Task, read_task
from runtime.tensors import TensorSpec

Resize = Literal["nearest", "bilinear", "bicubic"]
Postprocess = Literal["softmax", "none"]

# The longest side to resize to: an image of two such sides is nearly the largest that is read at all.
MAX_SIDE = 8192


@dataclass(frozen=True)
class ImagePreprocess:
    """How pixels 0…255 become a float32 tensor [channels, height, width]: ``(pixel * scale - mean) / std``.

    Attributes:
        channels: 1 for grey, 3 for red, green, blue.
        size: the height and width to resize to in pixels, None to leave the image as it is.
        resize: the filter to resize with.
        scale: multiplies every pixel; 1/255 brings them into 0…1.
        mean: what to subtract, for each channel.
        std: what to divide by, for each channel.
    """

    channels: int
    size: tuple[int, int] | None = None
    resize: Resize = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels [..., channels] as the model takes them: float32 of the same shape."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((pixels.astype(np.float32) * np.float32(self.scale) - mean) / std)


@dataclass(frozen=True)
class ImagePixels:
    """An input that takes the pixels 0…255 as they are: uint8 [batch, height, width, channels].

    Attributes:
        channels: 1 for grey, 3 for red, green, blue.
    """

    channels: int


ImageContract = ImagePreprocess | ImagePixels


@dataclass(frozen=True)
class Metadata:
    """The metadata of one model; what the file does not say is None or empty."""

    spec: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, ImageContract] = field(default_factory=dict)
    postprocess: Mapping[str, Postprocess] = field(default_factory=dict)
    task: Task | None = None


def read_metadata(
    path: Path, stored: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Metadata:
    """Reads what is stored in the model at `path`, which has these inputs and outputs.

    Raises:
        ModelError: a value is not what its key promises, or does not fit the model; the message names the key.
    """
    try:
        labels = _labels(stored)
        return Metadata(
            spec=stored.get("netspec.spec"),
            args=json_object(stored, "netspec.args"),
            labels=labels,
            preprocess=_preprocess(stored, inputs),
            postprocess=_postprocess(stored, outputs, labels),
            task=read_task(stored, outputs),
        )
    except Broken as error:
        raise ModelError(f"{path}: the metadata {error}", help="export the model again") from None


def _labels(stored: Mapping[str, str]) -> tuple[str, ...] | None:
    key = "netspec.labels"
    if key not in stored:
        return None
    value = json_value(stored, key)
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        broken(key, "is not a list of texts")
    return tuple(value)


def _preprocess(stored: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, ImageContract]:
    key = "netspec.preprocess"
    images: dict[str, ImageContract] = {}
    by_name = {spec.name: spec for spec in inputs}
    for name, value in json_object(stored, key).items():
        if name not in by_name:
            broken(key, f"is about '{name}', which is no input of the model")
        if not isinstance(value, dict):
            broken(f"{key}: '{name}'", "is not an object")
        contract = _image_pixels if "pixels" in value else _image_preprocess
        images[name] = contract(f"{key}: '{name}'", value, by_name[name])
    return images


def _image_pixels(where: str, value: Mapping[str, Any], spec: TensorSpec) -> ImagePixels:
    check_fields(where, value, ("pixels", "channels"))
    if value["pixels"] is not True:
        broken(where, "has pixels other than true")
    channels = _channels(where, value)
    taken = TensorSpec(spec.name, np.dtype(np.uint8), ("batch", "height", "width", channels))
    fits = not spec.shape or (
        len(spec.shape) == 4 and (spec.shape[3] == channels or not isinstance(spec.shape[3], int))
    )
    if spec.dtype != taken.dtype or not fits:
        broken(where, f"gives pixels, {taken}, but the input is {spec}")
    return ImagePixels(channels)


def _channels(where: str, value: Mapping[str, Any]) -> int:
    channels = value.get("channels")
    if type(channels) is not int or channels not in (1, 3):
        broken(where, "has channels other than 1 or 3")
    return channels


def _image_preprocess(where: str, value: Mapping[str, Any], spec: TensorSpec) -> ImagePreprocess:
    check_fields(where, value, ("channels", "size", "resize", "scale", "mean", "std"))
    channels = _channels(where, value)
    size = value.get("size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side <= MAX_SIDE for side in size)
    ):
        broken(where, f"has a size that is neither null nor [height, width] of 1 to {MAX_SIDE} pixels")
    resize = value.get("resize", "bilinear")
    if resize not in get_args(Resize):
        broken(where, f"has a resize other than {', '.join(get_args(Resize))}")
    scale = value.get("scale", 1 / 255)
    if not _is_number(scale):
        broken(where, "has a scale that is no number")
    mean = _per_channel(where, value, "mean", channels, 0.0)
    std = _per_channel(where, value, "std", channels, 1.0)
    image = ImagePreprocess(channels, None if size is None else (size[0], size[1]), resize, float(scale), mean, std)
    with np.errstate(all="ignore"):  # what float32 cannot hold is found by looking at the result
        extremes = image.normalized(np.array([[0], [255]]))
    if not np.isfinite(extremes).all():
        broken(where, "has a std of 0, or a scale, mean and std that make pixels infinite in float32")
    _check_fits(where, image, spec)
    return image


def _per_channel(where: str, value: Mapping[str, Any], name: str, channels: int, default: float) -> tuple[float, ...]:
    numbers = value.get(name, [default] * channels)
    if not isinstance(numbers, list) or len(numbers) != channels or not all(_is_number(number) for number in numbers):
        broken(where, f"has a {name} that is not a list of {channels} number{'s' if channels > 1 else ''}")
    return tuple(float(number) for number in numbers)


def _check_fits(where: str, image: ImagePreprocess, spec: TensorSpec) -> None:
    """Raises Broken when no image prepared like this could be fed to the input."""
    if spec.dtype != np.float32:
        broken(where, f"prepares float32, but the input is {spec}")
    prepared = TensorSpec(spec.name, spec.dtype, ("batch", image.channels, *(image.size or ("height", "width"))))
    if not spec.may_be(prepared):
        sides = ", ".join(map(str, prepared.shape))
        broken(where, f"prepares [{sides}], but the input is {spec}")


def _postprocess(
    stored: Mapping[str, str], outputs: Sequence[TensorSpec], labels: tuple[str, ...] | None
) -> dict[str, Postprocess]:
    key = "netspec.postprocess"
    by_name = {spec.name: spec for spec in outputs}
    steps = json_object(stored, key)
    for name, step in steps.items():
        if name not in by_name:
            broken(key, f"is about '{name}', which is no output of the model")
        if step not in get_args(Postprocess):
            broken(f"{key}: '{name}'", f"is other than {' or '.join(get_args(Postprocess))}")
        shape = by_name[name].shape
        if step == "softmax" and labels is not None and len(shape) == 2:
            classes = shape[1]
            if isinstance(classes, int) and classes != len(labels):
                broken("netspec.labels", f"names {len(labels)} classes, but '{name}' has {classes}")
    return cast(dict[str, Postprocess], steps)


def _is_number(value: object) -> bool:
    """Whether it is a number that float32 can hold, which infinity, NaN and true are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3e38
