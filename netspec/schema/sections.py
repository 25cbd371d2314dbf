"""The whole language as a JSON Schema (draft 7)."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.data_choices import Augment
from netspec.document import LANGUAGE_VERSION, SECTIONS, Block, Document, _InputModel
from netspec.expect import ASSERTIONS
from netspec.layers import CONTAINERS
from netspec.parameters import TYPES, LayerValue, Parameter, _Declared
from netspec.recipe import CHOICES, Deploy, TrainNumbers
from netspec.schema.kinds import REFERENCES, Kind, definitions, mapping, of_choice, word
from netspec.schema.layers import NAME, OUTPUTS, container_arguments, container_body, layers
from netspec.schema.values import COUNT, TEXT, Schema, described, documented, expression_or, fields
from netspec.yaml_reader import Scalar

# Specs whose blocks are not known, and specs that are sure to have none.
ANY, KNOWN = "any", "known"

_TEXTS = {
    "netspec": f"The version of the language: `{LANGUAGE_VERSION}`. Required.",
    "name": "What the network is called; the file's stem, if missing.",
    "source": "Where the network comes from: a paper, a section, a table.",
    "extends": "The spec that this one is built on: a name from the zoo, or a file beside this one.",
    "use": "Files whose blocks this one uses: `[blocks.yaml]`.",
    "args": "The network's arguments, each with a default, or a type where it has to be given: `{classes: 10}`.",
    "inputs": "The tensors that come in: `image: {shape: [N, 3, H, W], sizes: {H: 224, W: 224}}`, batch first.",
    "blocks": "Fragments with arguments: `{name: {args: {width: int}, net: {…}}}`. A block's name is a kind of layer.",
    "net": "The layers, by name or as a list. A layer reads the layer above it, unless it says otherwise.",
    "outputs": "A list of layers, or a mapping of names to layers; the last layer, if missing.",
    "expect": "What the spec asserts of itself. An assertion that fails is an error with the value found.",
    "train": "How the network is trained: `data`, `loss`, `optimizer`, `schedule`, and numbers.",
    "deploy": "What the served network does around the trained one.",
}
_COUNTS: Schema = {"anyOf": [COUNT, {"type": "object", "additionalProperties": COUNT}]}
_SIZES: Schema = {"type": "array", "items": {"anyOf": [COUNT, {"type": ["string", "null"]}]}}
_ASSERTIONS: dict[str, tuple[str, Schema]] = {
    "parameters": ("Trained numbers, of the whole network or by layer: `{total: 61_706, conv1: 156}`.", _COUNTS),
    "macs": ("Multiply-accumulates for one sample, of the whole network or by layer.", _COUNTS),
    "depth": ("Layers with weights on the longest path.", COUNT),
    "shapes": (
        "Output shapes at the inputs' `sizes`: `{fc: [N, 10]}`.",
        {"type": "object", "additionalProperties": _SIZES},
    ),
    "receptive_field": (
        "What a unit sees of the input, one number or one for each axis: `{conv2: 14}`.",
        {"type": "object", "additionalProperties": {"anyOf": [COUNT, {"type": "array", "items": COUNT}]}},
    ),
}
_CHOICES = {
    "data": "What the network is trained on.",
    "loss": "What training makes small.",
    "optimizer": "How the weights follow the gradients.",
    "schedule": "How the learning rate changes.",
}


def spec_schema(document: Document | None = None) -> Schema:
    """The JSON Schema of specs.

    Args:
        document: a spec whose blocks, with those that it uses, are the only ones there are. Without it every spec is
            let through that could be valid with some blocks.
    """
    prefixes = [ANY, KNOWN] if document is None else [KNOWN]
    schemas: dict[str, Schema] = {}
    for prefix in prefixes:
        schemas |= layers(prefix, _blocks(document) if document else (), strict=prefix == KNOWN)
    for section, choices in CHOICES.items():
        schemas |= definitions([of_choice(section, choice) for choice in choices.values()], ())
    schemas["name"] = NAME
    schemas["arguments"] = _arguments()
    schemas["block"] = _block(prefixes[0])
    known = {
        "netspec": {"enum": [LANGUAGE_VERSION]},
        "name": TEXT,
        "source": TEXT,
        "extends": TEXT,
        "use": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        "args": {"$ref": "#/definitions/arguments"},
        "inputs": _named(_object(fields(_InputModel), required=["shape"])),
        "blocks": _or_nothing(_named({"$ref": "#/definitions/block"})),
        "net": {"type": ["object", "array"]},
        "outputs": OUTPUTS,
        "expect": _object({name: described(name, _ASSERTIONS) for name in ASSERTIONS}),
        "train": _train(),
        "deploy": _object(fields(Deploy) | _served_layers()),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "description": "A network as a netspec spec.",
        "type": "object",
        "properties": {name: documented(known.get(name, {}), _TEXTS[name]) for name in SECTIONS},
        "required": ["netspec"],
        "additionalProperties": False,
        "allOf": [_complete(), _nets() if document is None else _in_nets(KNOWN)],
        "definitions": schemas,
    }


def _object(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _named(schema: Schema) -> Schema:
    return {"type": "object", "propertyNames": {"$ref": "#/definitions/name"}, "additionalProperties": schema}


def _or_nothing(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _layers(prefix: str) -> Schema:
    return {"$ref": f"#/definitions/{prefix}.layers"}


def _complete() -> Schema:
    """Which sections there have to be: few in a spec that extends another, and in a library of blocks."""
    library = {
        "required": ["blocks"],
        "not": {"anyOf": [{"required": [name]} for name in ("net", "inputs", "outputs")]},
    }
    return {
        "if": {"anyOf": [{"required": ["extends"]}, library]},
        "else": {"required": ["inputs", "net"], "properties": {"train": {"required": ["data"]}}},
    }


def _nets() -> Schema:
    """The layers: of ops and containers alone where there are no blocks, and no layers as arguments."""
    no_layer = {"not": {"anyOf": [{"enum": ["layer"]}, {"type": "object"}]}}
    layer_argument = {"properties": {"args": {"not": {"additionalProperties": no_layer}}}, "required": ["args"]}
    return {
        "if": {"anyOf": [*({"required": [name]} for name in ("blocks", "use", "extends")), layer_argument]},
        "then": _in_nets(ANY),
        "else": _in_nets(KNOWN),
    }


def _in_nets(prefix: str) -> Schema:
    """What the layers are, those of the network and those that only its served form has."""
    return {"properties": {"net": _layers(prefix), "deploy": {"properties": {"net": _layers(prefix)}}}}


def _served_layers() -> dict[str, Schema]:
    net = "The layers that only the served form has: they may read every layer of the network."
    outputs = "What the served form gives, where it has layers of its own: the last of them, if missing."
    return {"net": documented({"type": ["object", "array"]}, net), "outputs": documented(OUTPUTS, outputs)}


def _arguments() -> Schema:
    declared = fields(_Declared)
    declared["type"] = {**declared["type"], "anyOf": [{"enum": list(TYPES)}]}
    declared["default"] = documented({}, "The value where none is given")
    value = [{"enum": list(TYPES)}, TEXT, {"type": "array"}, _object(declared, required=["type"])]
    return _or_nothing(_named({"anyOf": value}))


def _block(prefix: str) -> Schema:
    """A block's declaration: its arguments, its inputs, and its body."""
    properties: dict[str, Schema] = {
        "args": documented({"$ref": "#/definitions/arguments"}, "The block's arguments; the first is its primary one."),
        "inputs": documented(REFERENCES, "Names for the tensors that the block reads, if it reads several."),
    }
    for name in CONTAINERS:
        properties |= {name: container_body(name, prefix), **container_arguments(name, prefix)}
    return _object(properties) | {"anyOf": [{"required": [name]} for name in CONTAINERS]}


def _train() -> Schema:
    sections = {}
    for name, choices in CHOICES.items():
        kinds = [of_choice(name, choice) for choice in choices.values()]
        schema = {"anyOf": [word(kinds, strict=True), mapping(kinds, {}, strict=True)]}
        sections[name] = documented(schema, _CHOICES.get(name, ""))
    augment = documented(_object(fields(Augment)), "How every image is varied anew in every epoch.")
    return _object(sections | {"augment": augment} | fields(TrainNumbers))


def _blocks(document: Document) -> list[Kind]:
    """The blocks of a spec, and its arguments and theirs that hold layers, as kinds."""
    found = [_block_kind(block) for block in document.blocks.values()]
    declared = [document.parameters, *(block.parameters for block in document.blocks.values())]
    holders = {name for parameters in declared for name, known in parameters.items() if known.type is LayerValue}
    return found + [
        Kind("argument", name, f"`{name}`\n\nThe layer that the argument holds.", open=True) for name in sorted(holders)
    ]


def _block_kind(block: Block) -> Kind:
    arguments = {name: _argument(parameter) for name, parameter in block.parameters.items()}
    needed = [name for name, parameter in block.parameters.items() if parameter.default is None]
    primary = next(iter(arguments), None)
    written = ", ".join(f"{name}: {_shown(parameter)}" for name, parameter in block.parameters.items())
    return Kind(
        "block",
        block.name,
        f"`{block.name}`, a block with `args: {{{written}}}`" if written else f"`{block.name}`, a block",
        arguments.pop(primary) if primary else None,
        primary,
        arguments,
        tuple(name for name in needed if name != primary),
        alone=not needed,
    )


def _shown(parameter: Parameter) -> str:
    if isinstance(parameter.default, Scalar):
        return parameter.default.text
    return next((word for word, known in TYPES.items() if known is parameter.type), "…")


_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", tuple: "array"}


def _argument(parameter: Parameter) -> Schema:
    """What an argument of a block takes; anything, where its type is not declared."""
    bounds = parameter.bounds
    text = bounds.help if bounds and bounds.help else f"`{parameter.name}: {_shown(parameter)}`"
    if parameter.type is LayerValue:
        return documented({"$ref": f"#/definitions/{KNOWN}.given"}, text)
    if parameter.type not in _JSON_TYPES:
        return documented({}, text)
    schema: Schema = {"type": _JSON_TYPES[parameter.type]}
    if bounds and bounds.min is not None:
        schema["minimum"] = bounds.min
    if bounds and bounds.max is not None:
        schema["maximum"] = bounds.max
    if bounds and bounds.multiple is not None:
        schema["multipleOf"] = bounds.multiple
    return documented(expression_or(schema), text)
