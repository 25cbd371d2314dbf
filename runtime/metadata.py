"""What an exporter writes into a model about its meaning: labels, preprocessing of images, postprocessing.

ONNX stores metadata as text by key. Every key is optional:

=======================  ==============================================================================================
``netspec.spec``         the YAML text of the network
``netspec.args``         a JSON object: the arguments that the network was built with
``netspec.labels``       a JSON list: the names of the classes, in the order of the output's columns
``netspec.preprocess``   a JSON object: by the name of an input, ``{"channels": 1 or 3, "size": [height, width] or
                         null, "resize": "bilinear", "nearest" or "bicubic", "scale": s, "mean": […], "std": […]}``
``netspec.postprocess``  a JSON object: by the name of an output, ``"softmax"`` for class scores, ``"none"`` for values
                         that are meant as they come
=======================  ==============================================================================================
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, cast, get_args

import numpy as np

from runtime.errors import ModelError
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
class Metadata:
    """The metadata of one model; what the file does not say is None or empty."""

    spec: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, ImagePreprocess] = field(default_factory=dict)
    postprocess: Mapping[str, Postprocess] = field(default_factory=dict)


class _Broken(Exception):
    """What is wrong with a value, without the file that holds it."""


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
            args=_json_object(stored, "netspec.args"),
            labels=labels,
            preprocess=_preprocess(stored, inputs),
            postprocess=_postprocess(stored, outputs, labels),
        )
    except _Broken as broken:
        raise ModelError(f"{path}: the metadata {broken}", help="export the model again") from None


def _labels(stored: Mapping[str, str]) -> tuple[str, ...] | None:
    key = "netspec.labels"
    if key not in stored:
        return None
    value = _json(stored, key)
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        _broken(key, "is not a list of texts")
    return tuple(value)


def _preprocess(stored: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, ImagePreprocess]:
    key = "netspec.preprocess"
    images = {}
    by_name = {spec.name: spec for spec in inputs}
    for name, value in _json_object(stored, key).items():
        if name not in by_name:
            _broken(key, f"is about '{name}', which is no input of the model")
        if not isinstance(value, dict):
            _broken(f"{key}: '{name}'", "is not an object")
        image = _image_preprocess(f"{key}: '{name}'", value)
        _check_fits(f"{key}: '{name}'", image, by_name[name])
        images[name] = image
    return images


def _image_preprocess(where: str, value: Mapping[str, Any]) -> ImagePreprocess:
    known = {"channels", "size", "resize", "scale", "mean", "std"}
    if unknown := sorted(set(value) - known):
        _broken(where, f"has the unknown field '{unknown[0]}'; a newer netspec may have written it")
    channels = value.get("channels")
    if type(channels) is not int or channels not in (1, 3):
        _broken(where, "has channels other than 1 or 3")
    size = value.get("size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side <= MAX_SIDE for side in size)
    ):
        _broken(where, f"has a size that is neither null nor [height, width] of 1 to {MAX_SIDE} pixels")
    resize = value.get("resize", "bilinear")
    if resize not in get_args(Resize):
        _broken(where, f"has a resize other than {', '.join(get_args(Resize))}")
    scale = value.get("scale", 1 / 255)
    if not _is_number(scale):
        _broken(where, "has a scale that is no number")
    mean = _per_channel(where, value, "mean", channels, 0.0)
    std = _per_channel(where, value, "std", channels, 1.0)
    image = ImagePreprocess(channels, None if size is None else (size[0], size[1]), resize, float(scale), mean, std)
    with np.errstate(all="ignore"):  # what float32 cannot hold is found by looking at the result
        extremes = image.normalized(np.array([[0], [255]]))
    if not np.isfinite(extremes).all():
        _broken(where, "has a std of 0, or a scale, mean and std that make pixels infinite in float32")
    return image


def _per_channel(where: str, value: Mapping[str, Any], name: str, channels: int, default: float) -> tuple[float, ...]:
    numbers = value.get(name, [default] * channels)
    if not isinstance(numbers, list) or len(numbers) != channels or not all(_is_number(number) for number in numbers):
        _broken(where, f"has a {name} that is not a list of {channels} number{'s' if channels > 1 else ''}")
    return tuple(float(number) for number in numbers)


def _check_fits(where: str, image: ImagePreprocess, spec: TensorSpec) -> None:
    """Raises ModelError when no image prepared like this could be fed to the input."""
    if spec.dtype != np.float32:
        _broken(where, f"prepares float32, but the input is {spec}")
    if not spec.shape:
        return
    height, width = image.size or (None, None)
    prepared = (None, image.channels, height, width)
    if len(spec.shape) != 4 or any(
        isinstance(expected, int) and given is not None and given != expected
        for given, expected in zip(prepared, spec.shape, strict=True)
    ):
        sides = f"{height}, {width}" if image.size else "height, width"
        _broken(where, f"prepares [batch, {image.channels}, {sides}], but the input is {spec}")


def _postprocess(
    stored: Mapping[str, str], outputs: Sequence[TensorSpec], labels: tuple[str, ...] | None
) -> dict[str, Postprocess]:
    key = "netspec.postprocess"
    by_name = {spec.name: spec for spec in outputs}
    steps = _json_object(stored, key)
    for name, step in steps.items():
        if name not in by_name:
            _broken(key, f"is about '{name}', which is no output of the model")
        if step not in get_args(Postprocess):
            _broken(f"{key}: '{name}'", f"is other than {' or '.join(get_args(Postprocess))}")
        shape = by_name[name].shape
        if step == "softmax" and labels is not None and len(shape) == 2:
            classes = shape[1]
            if isinstance(classes, int) and classes != len(labels):
                _broken("netspec.labels", f"names {len(labels)} classes, but '{name}' has {classes}")
    return cast(dict[str, Postprocess], steps)


def _json_object(stored: Mapping[str, str], key: str) -> dict[str, Any]:
    """The JSON object under `key`, empty where there is none."""
    if key not in stored:
        return {}
    value = _json(stored, key)
    if not isinstance(value, dict):
        _broken(key, "is not a JSON object")
    return value


def _json(stored: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(stored[key])
    except (ValueError, RecursionError):
        _broken(key, "is not JSON")


def _is_number(value: object) -> bool:
    """Whether it is a number that float32 can hold, which infinity, NaN and true are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3e38


def _broken(key: str, complaint: str) -> NoReturn:
    raise _Broken(f"{key} {complaint}")
