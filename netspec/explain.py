"""One layer worked out by hand: its output size, parameters, multiply-accumulates and receptive field."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from netspec.dims import Dim, evaluate
from netspec.expressions import ExpressionError, spelled_out
from netspec.network import Network, nominal
from netspec.ops.base import Line
from netspec.tensor import Field, write_shape


def explain_layer(network: Network, path: str) -> list[Line]:
    """The lines of arithmetic of a layer, at the spec's `sizes`.

    Raises:
        KeyError: there is no such layer.
    """
    layer = network.layer(path)
    op = layer["op"]
    if op is None:
        return [Line("input", "", write_shape(layer["output"].shape, network.sizes))]
    inputs = tuple(nominal(network.layer(node)["output"], network.sizes) for node in layer["inputs"])
    output = nominal(layer["output"], network.sizes)
    lines = [
        Line("reads", "", f"{node}  {write_shape(x.shape)}") for node, x in zip(layer["inputs"], inputs, strict=True)
    ]
    lines += _formulas(network, path)
    lines += op.explain(inputs, output)
    lines.append(Line("output", "", write_shape(output.shape)))
    if layer["module"] != path and layer["weights"]:
        lines.append(Line("weights", "", f"those of the module `{layer['module']}`"))
    for name, weight in layer["weights"].items():
        kept = "" if weight.kind == "parameter" else "  (kept, not trained)"
        lines.append(
            Line(name or "its tensor", "", (" × ".join(str(size) for size in weight.shape) or "one number") + kept)
        )
    lines += _receptive_field(network, path)
    return lines


def explain_container(network: Network, path: str) -> list[Line]:
    """The sums over a container's layers: parameters and multiply-accumulates."""
    prefix = path + "."
    parts = [layer for name, layer in network.layers() if name.startswith(prefix)]
    return [
        _sum("parameters", [layer["parameters"] for layer in parts]),
        _sum("MACs", [evaluate(layer["macs"], network.sizes) for layer in parts]),
    ]


def _formulas(network: Network, path: str) -> Iterator[Line]:
    """The arguments that are written as arithmetic, with the numbers that it reads."""
    formulas, variables = network.formulas.get(path, ({}, {}))
    for name, text in formulas.items():
        try:
            shown = spelled_out(text, variables)
        except ExpressionError:  # a word that looks like one
            continue
        if shown:
            yield Line(name.replace("_", " "), shown, f"{network.layer(path)['arguments'][name]:,}")


def _sum(what: str, values: list[Dim]) -> Line:
    counted = [value for value in values if value != 0]
    total: Dim = 0
    for value in counted:
        total = total + value
    return Line(what, " + ".join(_number(value) for value in counted) if len(counted) > 1 else "", _number(total))


def _number(value: Dim) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _receptive_field(network: Network, path: str) -> Iterator[Line]:
    """r + (k − 1)·j for a sliding window (Araujo et al. 2019, equation 2)."""
    layer = network.layer(path)
    field = layer["receptive_field"]
    op = layer["op"]
    if field is None or op is None:
        return
    size = write_shape(tuple(field.size), network.sizes)
    before = network.layer(layer["inputs"][0])["receptive_field"]
    types = tuple(network.layer(node)["output"] for node in layer["inputs"])
    window = op.window(*types)
    if window is None or before is None or len(layer["inputs"]) > 1:
        yield Line("receptive field", "", size)
        return
    formulas = []
    for r, k, j in zip(before.extent, window.extent, before.jump, strict=True):
        numbers = [_pixels(network, r, before), str(evaluate(k, network.sizes)), _pixels(network, j, before)]
        formulas.append(f"{numbers[0]} + ({numbers[1]} − 1)·{numbers[2]}")
    if any(evaluate(e - s * field.parts, network.sizes) != 0 for e, s in zip(field.extent, field.size, strict=True)):
        formulas = [f"⌈{formula}⌉" for formula in formulas]
    distinct = list(dict.fromkeys(formulas))
    shown = field.size[:1] if len(distinct) == 1 else field.size
    yield Line("receptive field", ", ".join(distinct), write_shape(shown, network.sizes))


def _pixels(network: Network, value: Dim, field: Field) -> str:
    """A length in parts of a pixel as people write it: `3`, `1/2`."""
    found = evaluate(value, network.sizes)
    if isinstance(found, int):
        return str(Fraction(found, field.parts))
    return str(found) if field.parts == 1 else f"({found})/{field.parts}"
