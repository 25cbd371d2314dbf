"""From pixels to a network's input and back, the same to the last bit of a coordinate in PyTorch and in ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import TensorProto
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.imaging import BoxesOfImage, BoxesOfInput, Fitting, MaskOfImage, Prepare
from netspec.tensor import TensorType


class _Numbers:
    """Whole numbers worked out in the graph, each a vector of one."""

    def __init__(self, node: Emitter) -> None:
        self.node = node
        self.count = 0

    def constant(self, value: int) -> str:
        return self.node.constant(f"number{value}", [value])

    def of(self, op_type: str, *operands: str | int, **attributes: int) -> str:
        """The result of a node on numbers, those that are known being constants."""
        self.count += 1
        names = [self.constant(value) if isinstance(value, int) else value for value in operands]
        return self.node.emit(op_type, names, f"{op_type.lower()}{self.count}", **attributes)

    def size(self, value: str, axis: int) -> str:
        return self.of("Shape", value, start=axis, end=axis + 1)

    def floats(self, *names: str) -> str:
        """Numbers as one float32 vector."""
        joined = self.of("Concat", *names, axis=0) if len(names) > 1 else names[0]
        return self.of("Cast", joined, to=TensorProto.FLOAT)

    def range(self, count: str) -> str:
        """0, 1, … up to a number."""
        return self.of("Range", *(self.of("Squeeze", value) for value in (self.constant(0), count, self.constant(1))))


def _scaled(op: Fitting, numbers: _Numbers, height: str, width: str) -> tuple[str, str]:
    """`Fitting.scaled` as nodes."""

    def share(size: str, to: str | int, by: str) -> str:
        return numbers.of("Max", numbers.of("Div", numbers.of("Mul", size, to), by), 1)

    def rounded(size: str, to: int, by: str) -> str:
        doubled = numbers.of("Add", numbers.of("Mul", size, 2 * to), by)
        return numbers.of("Max", numbers.of("Div", doubled, numbers.of("Mul", by, 2)), 1)

    if op.fit == "none":
        return height, width
    if op.fit == "stretch":
        return numbers.constant(op.height), numbers.constant(op.width)
    if op.fit == "letterbox":
        wide = numbers.of("LessOrEqual", numbers.of("Mul", width, op.height), numbers.of("Mul", height, op.width))
        return (
            numbers.of("Where", wide, op.height, rounded(height, op.width, width)),
            numbers.of("Where", wide, rounded(width, op.height, height), op.width),
        )
    least, most = numbers.of("Min", height, width), numbers.of("Max", height, width)
    fits = numbers.of("LessOrEqual", numbers.of("Mul", most, op.shortest), numbers.of("Mul", least, op.longest))
    to, by = numbers.of("Where", fits, op.shortest, op.longest), numbers.of("Where", fits, least, most)
    return share(height, to, by), share(width, to, by)


def _offset(op: Fitting, numbers: _Numbers, height: str, width: str) -> tuple[str, str]:
    """`Fitting.offset` as nodes."""
    if op.fit != "letterbox":
        return numbers.constant(0), numbers.constant(0)
    return (
        numbers.of("Div", numbers.of("Sub", op.height, height), 2),
        numbers.of("Div", numbers.of("Sub", op.width, width), 2),
    )


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
        (pixels,) = node.inputs
        size = numbers.size(pixels, 1), numbers.size(pixels, 2)
        scaled = _scaled(op, numbers, *size)
        x = node.emit("Transpose", [pixels], "channels_first", perm=[0, 3, 1, 2])
        if op.fit != "none":
            for axis, (old, new) in enumerate(zip(size, scaled, strict=True), 2):
                x = _resized(op, numbers, x, axis, old, new)
        if op.fit == "none" or op.resize == "nearest":
            x = node.emit("Cast", [x], "floats", to=TensorProto.FLOAT)
        if op.fit == "letterbox":
            x = _filled(op, numbers, x, scaled, node.scalar("fill", 255 * op.fill))
        channels = (-1, 1, 1)
        factor = _reshaped(node, "factor", [1 / (255 * std) for std in op.std], channels)
        shift = _reshaped(node, "shift", [-m / s for m, s in zip(op.mean, op.std, strict=True)], channels)
        padded = op.fit == "shortest" and op.multiple > 1
        x = node.emit("Add", [node.emit("Mul", [x, factor], "scaled"), shift], "normalised" if padded else "")
        if padded:
            _filled(op, numbers, x, scaled, node.scalar("zero", 0.0), "")


def _reshaped(node: Emitter, name: str, values: Sequence[float], shape: Sequence[int]) -> str:
    return node.emit(
        "Reshape", [node.constant(name, [float(v) for v in values]), node.constant("column", shape)], f"{name}s"
    )


def _resized(op: Prepare, numbers: _Numbers, x: str, axis: int, old: str, new: str) -> str:
    """An axis at another size."""
    node, last = numbers.node, numbers.of("Sub", old, 1)
    if op.resize == "nearest":
        odd = numbers.of("Add", numbers.of("Mul", numbers.range(new), 2), 1)
        place = numbers.of("Div", numbers.of("Mul", odd, old), numbers.of("Mul", new, 2))
        return node.emit("Gather", [x, place], f"resized{axis}", axis=axis)
    ratio = node.emit("Div", [numbers.floats(old), numbers.floats(new)], f"ratio{axis}")
    half, zero = node.scalar("half", 0.5), node.scalar("nought", 0.0)
    centre = node.emit("Add", [numbers.floats(numbers.range(new)), half], f"centre{axis}")
    moved = node.emit("Sub", [node.emit("Mul", [centre, ratio], f"stretched{axis}"), half], f"moved{axis}")
    place = node.emit("Max", [moved, zero], f"place{axis}")
    whole = node.emit("Cast", [node.emit("Floor", [place], f"floor{axis}")], f"whole{axis}", to=TensorProto.INT64)
    first = numbers.of("Min", whole, last)
    second = numbers.of("Min", numbers.of("Add", first, 1), last)
    share = node.emit("Sub", [place, numbers.floats(first)], f"share{axis}")
    if axis == 2:
        share = node.emit("Unsqueeze", [share, numbers.constant(1)], "share_of_rows")

    def neighbour(name: str, place: str) -> str:
        gathered = node.emit("Gather", [x, place], f"{name}{axis}", axis=axis)
        return node.emit("Cast", [gathered], f"{name}_floats{axis}", to=TensorProto.FLOAT)

    a, b = neighbour("before", first), neighbour("after", second)
    part = node.emit("Mul", [node.emit("Sub", [b, a], f"step{axis}"), share], f"part{axis}")
    return node.emit("Add", [a, part], f"resized{axis}")


def _filled(op: Prepare, numbers: _Numbers, x: str, scaled: tuple[str, str], value: str, part: str = "filled") -> str:
    """The image filled up to the network's input."""
    if op.fit == "letterbox":
        whole = numbers.constant(op.height), numbers.constant(op.width)
    else:
        up = [numbers.of("Add", size, op.multiple - 1) for size in scaled]
        whole_rows, whole_columns = (numbers.of("Mul", numbers.of("Div", s, op.multiple), op.multiple) for s in up)
        whole = whole_rows, whole_columns
    before = _offset(op, numbers, *scaled)
    after = [numbers.of("Sub", numbers.of("Sub", w, s), b) for w, s, b in zip(whole, scaled, before, strict=True)]
    pads = numbers.of("Concat", *before, *after, axis=0)
    return numbers.node.emit("Pad", [x, pads, value, numbers.node.constant("height_and_width", [2, 3])], part)


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
    numbers = _Numbers(node)
    boxes, pixels = node.inputs
    height, width = numbers.size(pixels, 1), numbers.size(pixels, 2)
    scaled = _scaled(op, numbers, height, width)
    top, left = _offset(op, numbers, *scaled)
    old, new = numbers.floats(width, height, width, height), numbers.floats(scaled[1], scaled[0], scaled[1], scaled[0])
    corner = numbers.floats(left, top, left, top)
    if isinstance(op, BoxesOfInput):
        ratio = node.emit("Div", [new, old], "ratio")
        node.emit("Add", [node.emit("Mul", [boxes, ratio], "scaled"), corner])
        return
    moved = node.emit("Sub", [boxes, corner], "moved")
    scaled_back = node.emit("Mul", [moved, node.emit("Div", [old, new], "ratio")], "scaled_back")
    inside = node.emit("Max", [scaled_back, node.scalar("nought", 0.0)], "inside")
    node.emit("Min", [inside, old])


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
        value, pixels = node.inputs
        size = numbers.size(pixels, 1), numbers.size(pixels, 2)
        scaled = _scaled(op, numbers, *size)
        for axis, (old, new, first) in enumerate(zip(size, scaled, _offset(op, numbers, *scaled), strict=True), 1):
            odd = numbers.of("Add", numbers.of("Mul", numbers.range(old), 2), 1)
            place = numbers.of("Div", numbers.of("Mul", odd, new), numbers.of("Mul", old, 2))
            moved = numbers.of("Add", place, first)
            value = node.emit("Gather", [value, moved], "rows" if axis == 1 else "", axis=axis)
