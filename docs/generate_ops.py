"""Writes docs/ops.md, the reference of the ops, from the ops themselves: `python docs/generate_ops.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

from netspec.binding import describe
from netspec.ops.base import Op, discover

HEAD = """# The ops

Made from the ops' own definitions by `python docs/generate_ops.py`; a test keeps it current.

The value of an op's key sets its first argument: `{conv: 64, kernel: 3}` is a convolution with `channels` 64. Where a
number is expected, an [expression](language.md#expressions) may stand. Dimension 0 is the batch, dimension 1 the
channels or features.
"""


def families() -> dict[str, list[type[Op]]]:
    """The ops by the module that defines them."""
    found: dict[str, list[type[Op]]] = {}
    for op in discover().values():
        found.setdefault(op.__module__.rpartition(".")[2], []).append(op)
    return dict(sorted(found.items()))


def default(op: type[Op], name: str) -> str:
    field = op.model_fields[name]
    if field.is_required():
        return "required"
    value = field.default
    shown = str(value).lower() if isinstance(value, bool) or value is None else value
    return "none" if shown == "none" else f"`{shown}`"


def section(op: type[Op]) -> list[str]:
    lines = [f"### `{op.kind}`", "", inspect.cleandoc(op.__doc__ or ""), ""]
    if op.wiring:
        lines += [f"Its value is the list of layers that it reads: `{op.kind}: [a, b]`.", ""]
    if op.model_fields:
        lines += ["| argument | takes | default |", "|---|---|---|"]
        for name, field in op.model_fields.items():
            takes = describe(field.annotation, tuple(field.metadata)).replace("|", "\\|")
            first = " (the value of the key)" if name == op.primary() else ""
            lines.append(f"| `{name}`{first} | {takes} | {default(op, name)} |")
        lines.append("")
    return lines


def text() -> str:
    """The whole page."""
    lines = [HEAD]
    for family, ops in families().items():
        lines += [f"## {family.capitalize()}", ""]
        for op in ops:
            lines += section(op)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("ops.md").write_text(text(), encoding="utf-8")
