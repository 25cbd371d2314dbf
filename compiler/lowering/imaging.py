"""From pixels to a network's input and back, the same to the last bit of a coordinate in PyTorch and in ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.imaging import BoxesOfImage, BoxesOfInput, Fitting, MaskOfImage, Prepare
from netspec.tensor import TensorType


class _Numbers:
    """Whole numbers worked out in the graph: pairs of one for the rows and one for the columns, mostly."""

    def __init__(self, node: Emitter) -> None:
        self.node = node
        self.count = 0

    def constant(self, *values: int) -> str:
        return self.node.constant("_".join(["number", *map(str, values)]), values)

    def of(self, op_type: str, *operands: str | int, **attributes: int) -> str:
        """The result of a node on numbers, those that are known being constants."""
        self.count += 1
        names = [self.constant(value) if isinstance(value, int) else value for value in operands]
        return self.node.emit(op_type, names, f"{op_type.lower()}{self.count}", **attributes)

    def floats(self, numbers: str) -> str:
        return self.of("Cast", numbers, to=TensorProto.FLOAT)

    def at(self, numbers: str, *places: int) -> str:
        """Some of the numbers, as often as they are asked for."""
        return self.of("Gather", numbers, self.constant(*places))

    def single(self, numbers: str, place: int) -> str:
        """One of the numbers, without an axis."""
        return self.of("Gather", numbers, self.node.whole(f"place{place}", place))


def _scaled(op: Fitting, numbers: _Numbers, size: str) -> str:
    """`Fitting.scaled` as nodes, on height and width at once.

    Rounding keeps the order of numbers: the lesser of two ratios leads to the lesser of both sizes.
    """
    if op.fit == "none":
        return size
    if op.fit == "stretch":
        return numbers.constant(op.height, op.width)
    if op.fit == "letterbox":
        turned = numbers.at(size, 1, 0)  # width and height: the side that a side follows where that one is full
        doubled = numbers.of("Add", numbers.of("Mul", size, numbers.constant(2 * op.width, 2 * op.height)), turned)
        whole = numbers.constant(op.height, op.width)
        by_side = numbers.of("Div", doubled, numbers.of("Mul", turned, 2))
        return numbers.of("Max", numbers.of("Min", whole, by_side), 1)
    sides, _ = numbers.node.emit_several("TopK", [size, numbers.constant(2)], ["longer_and_shorter", "which"])
    to = numbers.node.array("longest_and_shortest", np.array([[op.longest], [op.shortest]]))
    by_side = numbers.of("Div", numbers.of("Mul", size, to), numbers.of("Unsqueeze", sides, 1))
    return numbers.of("Max", numbers.of("ReduceMin", by_side, 0, keepdims=0), 1)


def _offset(op: Fitting, numbers: _Numbers, scaled: str) -> str:
    """`Fitting.offset` as nodes; nothing where it is none."""
    if op.fit != "letterbox":
        return ""
    return numbers.of("Div", numbers.of("Sub", numbers.constant(op.height, op.width), scaled), 2)


def _neighbours(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `new` places the two old ones around it, and the second's share."""
    ratio = torch.tensor(float(old)) / torch.tensor(float(new))
    place = ((torch.arange(new, device=device) + 0.5) * ratio.to(device) - 0.5).clamp(min=0)
    first = place.floor().long().clamp(max=old - 1)
    return first, (first + 1).clamp(max=old - 1), place - first


class PrepareImages(nn.Module):
    """Pixels N × height × width × C as a network's input."""

    def __init__(self, op: Prepare) -> None:
        super().__init__()
        self.op = op
        # (pixel/255 − mean)/std as one product and one sum
        self.register_buffer("factor", _column([1 / (255 * std) for std in op.std]), persistent=False)
        self.register_buffer("shift", _column([-m / s for m, s in zip(op.mean, op.std, strict=True)]), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        op, size = self.op, (int(pixels.shape[1]), int(pixels.shape[2]))
        scaled = op.scaled(*size)
        x = self.resized(pixels.permute(0, 3, 1, 2), scaled)
        (height, width), (top, left) = op.filled(*scaled), op.offset(*scaled)
        around = (left, width - left - scaled[1], top, height - top - scaled[0])
        factor, shift = self.get_buffer("factor"), self.get_buffer("shift")
        if op.fit == "letterbox":
            return nn.functional.pad(x, around, value=255 * op.fill) * factor + shift
        return nn.functional.pad(x * factor + shift, around) if any(around) else x * factor + shift

    def resized(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The image at another size, as float32."""
        for axis, new in zip((2, 3), size, strict=True):
            old = int(x.shape[axis])
            if old == new:
                continue
            if self.op.resize == "nearest":
                x = x.index_select(axis, (torch.arange(new, device=x.device) * 2 + 1) * old // (2 * new))
                continue
            first, second, share = _neighbours(old, new, x.device)
            share = share.reshape(-1, 1) if axis == 2 else share
            a, b = x.index_select(axis, first).float(), x.index_select(axis, second).float()
            x = a + (b - a) * share
        return x.float()


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


@lowers(Prepare)
class PrepareLowering(Lowering):
    @staticmethod
    def torch(op: Prepare, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PrepareImages(op)

    @staticmethod
    def onnx(op: Prepare, node: Emitter) -> None:
        numbers = _Numbers(node)
        size = node.size(0, 1, 3) if op.fit != "none" else ""
        scaled = _scaled(op, numbers, size)
        x = node.emit("Transpose", [node.inputs[0]], "channels_first", perm=[0, 3, 1, 2])
        if op.fit != "none" and op.resize == "nearest":
            for axis, place in zip((2, 3), _nearest(numbers, size, scaled), strict=True):
                x = node.emit("Gather", [x, place], f"resized{axis}", axis=axis)
        elif op.fit != "none":
            x = _interpolated(numbers, x, size, scaled)
        if op.fit == "none" or op.resize == "nearest":
            x = node.emit("Cast", [x], "floats", to=TensorProto.FLOAT)
        if op.fit == "letterbox":
            x = _filled(op, numbers, x, scaled, node.scalar("fill", 255 * op.fill))
        factor = node.array("factor", _column([1 / (255 * std) for std in op.std]).numpy())
        shift = node.array("shift", _column([-m / s for m, s in zip(op.mean, op.std, strict=True)]).numpy())
        padded = op.fit == "shortest" and op.multiple > 1
        x = node.emit("Add", [node.emit("Mul", [x, factor], "scaled"), shift], "normalised" if padded else "")
        if padded:
            _filled(op, numbers, x, scaled, node.scalar("zero", 0.0), "")


def _nearest(numbers: _Numbers, old: str, new: str) -> Iterator[str]:
    """For rows, then columns, the old place (2·i + 1)·old // (2·new) of each new one i."""
    for place in (0, 1):
        from_, to = numbers.single(old, place), numbers.single(new, place)
        count = numbers.of("Range", numbers.node.whole("nought", 0), to, numbers.node.whole("one", 1))
        odd = numbers.of("Add", numbers.of("Mul", count, 2), 1)
        yield numbers.of("Div", numbers.of("Mul", odd, from_), numbers.of("Mul", to, 2))


def _interpolated(numbers: _Numbers, x: str, old: str, new: str) -> str:
    """An image at another size: rows, then columns, as `_neighbours` has them.

    No place is beyond old − ½, so that the first neighbour is always there, and only the second may not be.
    """
    node = numbers.node
    sizes = numbers.floats(new)
    ratio, last = numbers.of("Div", numbers.floats(old), sizes), numbers.of("Sub", old, 1)
    half, one, zero = node.scalar("half", 0.5), node.scalar("step", 1.0), node.scalar("nothing", 0.0)
    for axis, side in ((2, 0), (3, 1)):
        centre = node.emit("Range", [half, numbers.single(sizes, side), one], f"centre{axis}")
        stretched = node.emit("Mul", [centre, numbers.single(ratio, side)], f"stretched{axis}")
        moved = node.emit("Sub", [stretched, half], f"moved{axis}")
        at = node.emit("Max", [moved, zero], f"at{axis}")
        first = node.emit("Cast", [at], f"first{axis}", to=TensorProto.INT64)  # which rounds down
        second = numbers.of("Min", numbers.of("Add", first, 1), numbers.single(last, side))
        share = node.emit("Mod", [at, one], f"share{axis}", fmod=1)
        if axis == 2:
            share = node.emit("Unsqueeze", [share, numbers.constant(1)], "share_of_rows")
        around = (("before", first), ("after", second))
        a, b = (node.emit("Gather", [x, place], f"{name}{axis}", axis=axis) for name, place in around)
        if axis == 2:  # which reads pixels
            a, b = numbers.floats(a), numbers.floats(b)
        part = node.emit("Mul", [node.emit("Sub", [b, a], f"step{axis}"), share], f"part{axis}")
        x = node.emit("Add", [a, part], f"resized{axis}")
    return x


def _filled(op: Prepare, numbers: _Numbers, x: str, scaled: str, value: str, part: str = "filled") -> str:
    """The image filled up to the network's input."""
    before = _offset(op, numbers, scaled)
    if before:
        after = numbers.of("Sub", numbers.of("Sub", numbers.constant(op.height, op.width), scaled), before)
    else:
        before = numbers.constant(0, 0)
        after = numbers.of("Mod", numbers.of("Neg", scaled), op.multiple)
    pads = numbers.of("Concat", before, after, axis=0)
    return numbers.node.emit("Pad", [x, pads, value, numbers.constant(2, 3)], part)


class MoveBoxes(nn.Module):
    """Boxes between the pixels of an image and those of the network's input."""

    def __init__(self, op: BoxesOfImage | BoxesOfInput) -> None:
        super().__init__()
        self.op = op

    def forward(self, boxes: Tensor, pixels: Tensor) -> Tensor:
        height, width = int(pixels.shape[1]), int(pixels.shape[2])
        scaled = self.op.scaled(height, width)
        top, left = self.op.offset(*scaled)
        old, new = boxes.new_tensor([width, height] * 2), boxes.new_tensor([scaled[1], scaled[0]] * 2)
        corner = boxes.new_tensor([left, top] * 2)
        if isinstance(self.op, BoxesOfInput):
            return boxes * (new / old) + corner
        return ((boxes - corner) * (old / new)).clamp(min=0).minimum(old)


def _move_boxes(op: BoxesOfImage | BoxesOfInput, node: Emitter) -> None:
    numbers, corners = _Numbers(node), (1, 0, 1, 0)  # left, top, right and bottom, of height and width
    size = node.size(1, 1, 3)
    scaled = _scaled(op, numbers, size)
    old, new = numbers.floats(size), numbers.floats(scaled)
    offset = _offset(op, numbers, scaled)
    corner = [numbers.at(numbers.floats(offset), *corners)] if offset else []
    boxes = node.inputs[0]
    if isinstance(op, BoxesOfInput):
        ratio = numbers.at(numbers.of("Div", new, old), *corners)
        moved = node.emit("Mul", [boxes, ratio], "scaled" if corner else "")
        if corner:
            node.emit("Add", [moved, *corner])
        return
    ratio = numbers.at(numbers.of("Div", old, new), *corners)
    moved = node.emit("Sub", [boxes, *corner], "moved") if corner else boxes
    inside = node.emit("Max", [node.emit("Mul", [moved, ratio], "scaled"), node.scalar("nothing", 0.0)], "inside")
    node.emit("Min", [inside, numbers.at(old, *corners)])


@lowers(BoxesOfImage)
class BoxesOfImageLowering(Lowering):
    @staticmethod
    def torch(op: BoxesOfImage, inputs: tuple[TensorType, ...]) -> nn.Module:
        return MoveBoxes(op)

    @staticmethod
    def onnx(op: BoxesOfImage, node: Emitter) -> None:
        _move_boxes(op, node)


@lowers(BoxesOfInput)
class BoxesOfInputLowering(Lowering):
    @staticmethod
    def torch(op: BoxesOfInput, inputs: tuple[TensorType, ...]) -> nn.Module:
        return MoveBoxes(op)

    @staticmethod
    def onnx(op: BoxesOfInput, node: Emitter) -> None:
        _move_boxes(op, node)


class MaskAtImage(nn.Module):
    """Class numbers at an image's size."""

    def __init__(self, op: MaskOfImage) -> None:
        super().__init__()
        self.op = op

    def forward(self, mask: Tensor, pixels: Tensor) -> Tensor:
        size = int(pixels.shape[1]), int(pixels.shape[2])
        scaled = self.op.scaled(*size)
        for axis, (old, new, first) in enumerate(zip(size, scaled, self.op.offset(*scaled), strict=True), 1):
            place = (torch.arange(old, device=mask.device) * 2 + 1) * new // (2 * old)
            mask = mask.index_select(axis, place + first)
        return mask


@lowers(MaskOfImage)
class MaskOfImageLowering(Lowering):
    @staticmethod
    def torch(op: MaskOfImage, inputs: tuple[TensorType, ...]) -> nn.Module:
        return MaskAtImage(op)

    @staticmethod
    def onnx(op: MaskOfImage, node: Emitter) -> None:
        numbers = _Numbers(node)
        value, size = node.inputs[0], node.size(1, 1, 3)
        scaled = _scaled(op, numbers, size)
        offset = _offset(op, numbers, scaled)
        for axis, place in enumerate(_nearest(numbers, scaled, size)):
            moved = numbers.of("Add", place, numbers.single(offset, axis)) if offset else place
            value = node.emit("Gather", [value, moved], "" if axis else "rows", axis=axis + 1)
