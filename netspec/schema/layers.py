"""Layers, modifiers and containers as JSON Schemas."""

from __future__ import annotations

import keyword
from collections.abc import Collection

from netspec.layers import BRANCHES, CONTAINER, CONTAINERS, MODIFIERS, RESIDUAL, SHARE
from netspec.names import RESERVED
from netspec.ops.base import discover
from netspec.schema.kinds import REFERENCE, REFERENCES, Kind, definitions, mapping, of_op, word
from netspec.schema.values import Schema, described, documented, expression_or

NAME: Schema = {
    "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
    "not": {"enum": sorted({*RESERVED, *keyword.kwlist})},
    "errorMessage": "a name has letters, digits and _, begins with no digit, and is no keyword",
}
NUMBER: Schema = {"pattern": "^(0|[1-9][0-9]*)$"}  # as checkpoints of others call layers
NAMED_REFERENCES: Schema = {
    "type": "object",
    "propertyNames": {"$ref": "#/definitions/name"},
    "additionalProperties": REFERENCE,
}
OUTPUTS: Schema = {"anyOf": [REFERENCE, REFERENCES, NAMED_REFERENCES]}

_MODIFIERS: dict[str, tuple[str, Schema]] = {
    "from": (
        "What the layer reads in place of the layer above: a layer that stands before, an input, `in` or a path into a "
        "container (`backbone.layer3`); several as a list, or by name: `{c4: backbone.layer3}`.",
        OUTPUTS,
    ),
    "over": ("Several tensors that the layer is applied to in turn, with the same weights.", OUTPUTS),
    "when": (
        "A condition: where it is false, the layer is what it would have read.",
        expression_or({"type": "boolean"}),
    ),
    "repeat": (
        "How many of the layer stand one after the other, called 0, 1, 2, …; `i` is the turn.",
        expression_or({"type": "integer", "minimum": 0}),
    ),
    "connect": ("`dense`: every turn of a `repeat` reads the channels of all before it.", {"enum": ["dense"]}),
    "as": ('What the turns of a `repeat` are called: `"layer{i + 1}"`.', {"type": "string"}),
}

_CONTAINERS: dict[str, tuple[str, str]] = {
    CONTAINER: ("layers", "Layers one after the other, by name or as a list. Each reads the one above it."),
    BRANCHES: ("named", "Layers side by side, each reading what the container reads; `merge` brings them together."),
    RESIDUAL: ("layers", "Layers and a shortcut past them; the result is their sum, projected where shapes differ."),
}


def modifiers() -> dict[str, Schema]:
    """What every layer may have beside its kind."""
    return {name: described(name, _MODIFIERS) for name in MODIFIERS}


def container_body(name: str, prefix: str) -> Schema:
    """What a container's own value is: its layers."""
    body, text = _CONTAINERS.get(name, ("layers", "Layers."))
    return documented(_reference(prefix, body), text)


def container_arguments(name: str, prefix: str) -> dict[str, Schema]:
    """What a container takes beside its layers."""
    layer = _reference(prefix, "layer")
    merging = [op.kind for op in discover(plugins=True).values() if op.wiring]
    known = {
        "merge": ("What brings the branches together.", {"anyOf": [{"enum": merging}, layer]}),
        "shortcut": ("The layer past the others, where it is not to be worked out.", layer),
        "outputs": ("What the container gives, if not its last layer: references, or names for them.", OUTPUTS),
    }
    return {key: described(key, known) for key in CONTAINERS[name]}


def layers(prefix: str, others: Collection[Kind] = (), strict: bool = False) -> dict[str, Schema]:
    """The definitions of `layer`, of `named` layers, and of `layers`, which may also be a list.

    A layer `given` as an argument may also be a word whose arguments are given where it is used.

    Args:
        prefix: of the definitions' names.
        others: kinds beside the ops and containers.
        strict: whether there are no kinds but these.
    """
    ops = map(of_op, discover(plugins=True).values())
    kinds = [*ops, *(_container(name, prefix) for name in CONTAINERS), _SHARE, *others]
    layer = _reference(prefix, "layer")
    one = [word(kinds, strict), mapping(kinds, modifiers(), strict), {"type": "array", "items": layer}]
    names: Schema = {"anyOf": [{"$ref": "#/definitions/name"}, NUMBER]}
    named = {"type": "object", "propertyNames": names, "additionalProperties": layer}
    completed = [kind.name for kind in kinds if not kind.alone and kind.name not in (*CONTAINERS, SHARE)]
    return {
        f"{prefix}.layer": {"anyOf": one},
        f"{prefix}.given": {"anyOf": [{"enum": completed}, layer]},
        f"{prefix}.named": named,
        f"{prefix}.layers": {"anyOf": [_reference(prefix, "named"), {"type": "array", "items": layer}]},
        **definitions(kinds, MODIFIERS),
    }


_SHARE = Kind(
    "any",
    SHARE,
    f"`{{{SHARE}: layer}}`\n\nAn earlier layer again, with the same weights.",
    documented(REFERENCE, "The earlier layer"),
    alone=False,
)


def _container(name: str, prefix: str) -> Kind:
    value = container_body(name, prefix)
    arguments = container_arguments(name, prefix)
    return Kind(prefix, name, f"`{name}: …`\n\n{value['markdownDescription']}", value, arguments=arguments, alone=False)


def _reference(prefix: str, name: str) -> Schema:
    return {"$ref": f"#/definitions/{prefix}.{name}"}
