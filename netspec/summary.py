"""A network layer by layer: rows of data, and the table, Markdown and CSV made from them."""

from __future__ import annotations

import csv
import io
from typing import Any

from netspec import dims
from netspec.network import Network
from netspec.requirements import requirements

HEADINGS = ("layer", "op", "output", "parameters", "MACs", "receptive field")


def summarise(network: Network) -> dict[str, Any]:
    """The summary as data.

    Sizes are taken at the spec's `sizes`, for one sample; a dimension that is still free is a string. `receptive_field`
    has a number for each spatial axis of the input, and is null where the input has none.
    """
    layers = []
    for path, layer in network.layers():
        field = layer["receptive_field"]
        assert layer["op"] is not None
        layers.append(
            {
                "name": path,
                "op": layer["op"].kind,
                "inputs": list(layer["inputs"]),
                "output": list(network.concrete(layer["output"].shape)),
                "parameters": layer["parameters"],
                "macs": _number(dims.evaluate(layer["macs"], network.sizes)),
                "receptive_field": list(network.concrete(field.size)) if field else None,
            }
        )
    return {
        "name": network.name,
        "source": network.origin,
        "file": network.file,
        "inputs": {name: list(network.concrete(network.layer(name)["output"].shape)) for name in network.inputs},
        "outputs": {
            name: list(network.concrete(network.layer(node)["output"].shape)) for name, node in network.outputs.items()
        },
        "parameters": network.parameters(),
        "macs": _number(network.macs()),
        "depth": network.depth(),
        "needs": [str(need) for need in requirements(network)],
        "layers": layers,
        "state_dict": [[key, list(weight.shape)] for key, weight in network.state_dict()],
    }


def _number(value: dims.Dim) -> int | str:
    return value if isinstance(value, int) else str(value)


def _count(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _sizes(values: list[int | str] | None) -> str:
    return " × ".join(str(value) for value in values) if values else ""


def rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The layers' rows as text, under `HEADINGS`."""
    return [
        (
            layer["name"],
            layer["op"],
            _sizes(layer["output"]),
            _count(layer["parameters"]) if layer["parameters"] else "",
            _count(layer["macs"]) if layer["macs"] else "",
            _sizes(layer["receptive_field"]),
        )
        for layer in summary["layers"]
    ]


def totals(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands below the table."""
    return [
        ("parameters", f"{summary['parameters']:,}"),
        ("MACs a sample", _count(summary["macs"])),
        ("weights in float32", _bytes(4 * summary["parameters"])),
        ("depth", f"{summary['depth']} weighted layer{'s' if summary['depth'] != 1 else ''}"),
        *(("needs", need) for need in summary["needs"]),
    ]


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def title(summary: dict[str, Any]) -> str:
    """`resnet: image N × 1 × 8 × 8 → fc N × 10`."""
    left = ", ".join(f"{name} {_sizes(shape)}" for name, shape in summary["inputs"].items())
    right = ", ".join(f"{name} {_sizes(shape)}" for name, shape in summary["outputs"].items())
    return f"{summary['name']}: {left} → {right}"


def as_markdown(summary: dict[str, Any]) -> str:
    """A table in GitHub's Markdown."""
    lines = [
        f"**{title(summary)}**",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|---|--:|--:|---|",
        *("| " + " | ".join(row) + " |" for row in rows(summary)),
        "",
        " · ".join(f"{name} {value}" for name, value in totals(summary)),
    ]
    return "\n".join(lines)


def as_csv(summary: dict[str, Any]) -> str:
    """Comma-separated rows with plain numbers; shapes are written `N×6×28×28`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("name", "op", "inputs", "output", "parameters", "macs", "receptive_field"))
    for layer in summary["layers"]:
        shapes = ["×".join(str(size) for size in layer[key] or ()) for key in ("output", "receptive_field")]
        inputs = " ".join(layer["inputs"])
        writer.writerow((layer["name"], layer["op"], inputs, shapes[0], layer["parameters"], layer["macs"], shapes[1]))
    return buffer.getvalue().rstrip("\n")
