"""What stands in a box and beside an arrow: a few words, and everything that is known for who asks."""

from __future__ import annotations

from typing import Any

from netspec import dims
from netspec.drawing.tree import Box, Tree, name_of
from netspec.network import Network
from netspec.tensor import Shape, write_shape

# Arguments that a picture is clearer without; the full account has them.
QUIET = {"padding", "bias", "ceil", "eps", "momentum", "affine", "count_padding"}
LONGEST_VALUE = 24  # characters
STEPS = (0.01, 0.05, 0.2)  # shares of the network's parameters at which a box's colour changes


def layer_words(network: Network, path: str) -> str:
    """`conv 7×7, 64, /2`: the op, its window, its primary argument, its stride, and what else is not usual."""
    layer = network.layer(path)
    op, arguments = layer["op"], layer["arguments"]
    assert op is not None
    words: list[str] = []
    for name, field in type(op).model_fields.items():
        value = arguments[name]
        if name == "kernel":
            axes = len(layer["output"].spatial)
            words.insert(0, "×".join(map(str, (value,) * axes if isinstance(value, int) else value)))
        elif name == op.primary() and name not in QUIET:
            words.append(_cut(_value(value)))
        elif name in QUIET or value is None or value == field.default:
            continue
        else:
            words.append(f"/{_value(value)}" if name == "stride" else f"{name} {_cut(_value(value))}")
    return f"{op.kind} {', '.join(words)}".rstrip()


def _value(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _cut(text: str) -> str:
    """A long list's beginning; the full account has the rest."""
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def kind_words(network: Network, box: Box) -> str:
    """What a container is: `3 × bottleneck`, or a block's name; "" for one that is only a grouping."""
    container = network.containers.get(box.path)
    if container is not None and container.kind == "repeat":
        turns = [path for path in network.containers if path.rpartition(".")[0] == box.path]
        kinds = {_kind(network, path) for path in turns} or {_kind(network, path) for path in box.layers}
        kind = kinds.pop() if len(kinds) == 1 else ""
        return f"{container.arguments['repeat']} × {kind}" if kind else f"{container.arguments['repeat']} turns"
    return _kind(network, box.path)


def _kind(network: Network, path: str) -> str:
    """The block's or the op's name; "" for a container that is only a grouping."""
    container = network.containers.get(path)
    if container is None:
        op = network.layer(path)["op"]
        return op.kind if op else ""
    return "" if container.kind in ("net", "branches", "repeat") else container.kind


def layers_words(box: Box) -> str:
    """How many layers a box has."""
    return f"{len(box.layers)} layer{'s' if len(box.layers) > 1 else ''}"


def name_words(box: Box) -> str:
    """A box's name; `1 … 5` for several turns."""
    name = name_of(box.path)
    return f"{name} … {box.last}" if box.times > 1 else name


def named(name: str, what: str, between: str) -> str:
    """`conv1 conv 3×3, 64`; a name that only repeats the op is left out."""
    return what if f"{what} ".startswith(f"{name} ") else name + between + what


def parameters(network: Network, box: Box) -> int:
    """The trained numbers in a box, of all that it stands for."""
    if box.role not in ("layers", "container"):
        return 0
    return box.times * sum(network.layer(path)["parameters"] for path in box.layers)


def loan(tree: Tree, path: str) -> str:
    """`weights of encoder`, for a layer or container that applies another's; "" where its container says so."""
    lender = tree.lenders.get(path, "")
    return f"weights of {lender}" if lender and path.rpartition(".")[0] not in tree.lenders else ""


def borrows(tree: Tree, box: Box) -> bool:
    """Whether a box applies the weights of another."""
    return any(path in tree.lenders for path in (box.path, *(box.layers if box.role == "layers" else ())))


def share_step(count: int, total: int) -> int:
    """Which of five colours shows a share of the parameters: 0 for none, then by `STEPS`."""
    return 1 + sum(count >= step * total for step in STEPS) if count else 0


def share_words() -> list[str]:
    """What the five colours mean."""
    bounds = [f"{step:.0%}" for step in STEPS]
    return ["none", f"< {bounds[0]}", f"< {bounds[1]}", f"< {bounds[2]}", f"≥ {bounds[2]}"]


def short(count: dims.Dim) -> str:
    """A number in at most four characters and a unit: `25.6 M`."""
    if not isinstance(count, int):
        return str(count)
    size = float(count)
    for unit in ("", " K", " M", " G"):
        if size < 999.5:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:,.3g} T"


def shape_words(network: Network, shape: Shape) -> str:
    """A tensor's sizes without the batch, as `64×56×56`."""
    return "×".join(str(size) for size in network.concrete(shape)[1:]) or "one number"


def title(network: Network) -> str:
    """The network's name and its sums."""
    return f"{network.name}: {short(network.parameters())} parameters, {short(network.macs())} MACs"


def account(tree: Tree, box: Box) -> str:
    """All that is known of a box, a line for each fact."""
    network = tree.network
    lines = []
    if box.role == "container":
        container = network.containers.get(box.path)
        given = container.arguments if container else {}
        what = container.kind if container else "net"
        lines = [f"{box.path}: {what}{_arguments(given)}", layers_words(box)]
        if box.times > 1:
            lines.append(f"stands for {box.times} equal ones, to {box.last}")
    elif box.role == "layers":
        for path in box.layers:
            layer = network.layer(path)
            assert layer["op"] is not None
            lines.append(f"{path}: {layer['op'].kind}{_arguments(layer['arguments'])}")
        if box.times > 1:
            lines.append(f"stands for {box.times} equal ones, to {box.last}")
    else:
        lines.append(f"{box.path}: {box.role}")
    paths = box.layers if box.role == "layers" else [box.path]
    lines += [f"{path} applies the weights of {tree.lenders[path]}" for path in paths if path in tree.lenders]
    last = network.layer(box.layers[-1])
    lines.append(f"gives {write_shape(last['output'].shape, network.sizes)}")
    if box.role in ("container", "layers"):
        macs: dims.Dim = 0
        for path in box.layers:
            macs = macs + network.layer(path)["macs"]
        lines.append(f"{parameters(network, box):,} parameters")
        lines.append(f"{short(dims.evaluate(macs * box.times, network.sizes))} MACs")
    if last["receptive_field"] is not None:
        lines.append(f"receptive field {write_shape(last['receptive_field'].size, network.sizes)}")
    return "\n".join(lines)


def _arguments(arguments: dict[str, Any]) -> str:
    return "".join(f", {name} {_value(value)}" for name, value in arguments.items() if value is not None)
