"""What has a kind as a JSON Schema: a word, or a mapping in which one key says what it is and the others follow.

Layers are written so, and the choices of `train`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from netspec.choices import Choice
from netspec.ops.base import Op
from netspec.schema.values import Schema, documented, fields


@dataclass(frozen=True)
class Kind:
    """One kind: what its own value is, and the arguments that stand beside it.

    Attributes:
        group: what the names of its definitions begin with.
        text: its documentation, Markdown.
        value: the schema of the value of its key; None where it takes none.
        primary: the name of the argument that this value sets, which may stand beside it in its place.
        required: the arguments that have to be given, without the primary one.
        alone: whether the word alone is enough.
        open: whether nothing is known of its arguments.
    """

    group: str
    name: str
    text: str
    value: Schema | None = None
    primary: str | None = None
    arguments: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    alone: bool = True
    open: bool = False

    @property
    def takes_something(self) -> bool:
        """Whether it is ever written as a mapping for its own sake."""
        return self.value is not None or bool(self.arguments)

    @property
    def names(self) -> set[str]:
        """The keys that belong to it, beside its own."""
        return {*self.arguments, *([self.primary] if self.primary else [])}


REFERENCE: Schema = {"type": "string"}
REFERENCES: Schema = {"type": "array", "items": REFERENCE}


def of_op(op: type[Op]) -> Kind:
    """An op; one that brings tensors together takes the layers that it reads as its value."""
    kind = of_model("op", op.kind, op, op.primary())
    if not op.wiring:
        return kind
    value = documented(REFERENCES, "The layers that it reads")
    return replace(kind, value=value, alone=op.least_inputs < 2)


def of_choice(section: str, choice: type[Choice]) -> Kind:
    """A choice of a `train` section."""
    return of_model(section, choice.kind, choice, next(iter(choice.model_fields), None))


def of_model(group: str, name: str, model: type[BaseModel], primary: str | None) -> Kind:
    """A kind whose arguments are a model's fields."""
    arguments = fields(model)
    required = tuple(name for name, known in model.model_fields.items() if known.is_required())
    return Kind(
        group,
        name,
        _text(name, model, primary),
        arguments.pop(primary) if primary else None,
        primary,
        arguments,
        tuple(argument for argument in required if argument != primary),
        alone=not required,
    )


def _text(name: str, model: type[BaseModel], primary: str | None) -> str:
    """The documentation of a model: how it is written, then its docstring with a line for each of its parts."""
    example = [f"{name}: {primary}" if primary else name]
    for argument, known in model.model_fields.items():
        if argument != primary:
            default = known.default
            shown = str(default).lower() if isinstance(default, bool) else default
            example.append(f"{argument}: …" if known.is_required() or default is None else f"{argument}: {shown}")
    paragraphs = inspect.cleandoc(model.__doc__ or "").split("\n\n")
    body = "\n\n".join(re.sub(r"\s*\n(?=(?:In|Out|In and out|Source):)", "  \n", text) for text in paragraphs)
    return f"`{{{', '.join(example)}}}`\n\n{body}"


def word(kinds: Collection[Kind], strict: bool) -> Schema:
    """A kind that stands alone; what can't is offered as a mapping on one line.

    Other words are let through where kinds may be meant that are not known.
    """
    alone: list[Schema] = [documented({"const": kind.name}, kind.text) for kind in kinds if kind.alone]
    written = [_snippet(f"{{{kind.name}: …}}", f"{{{_written(kind)}}}", kind) for kind in kinds if kind.takes_something]
    if not alone and strict:
        return {"type": "null", "defaultSnippets": written}
    return {"type": "string", "anyOf": [*alone, *([] if strict else [{"type": "string"}])], "defaultSnippets": written}


def mapping(kinds: Collection[Kind], modifiers: Mapping[str, Schema], strict: bool) -> Schema:
    """A mapping with one of the kinds.

    What stands beside a kind is checked where the kind is sure: always where it is `strict`, and else where no key is
    unknown, since that might be the kind, and the known one its argument.

    Args:
        modifiers: keys that every kind takes.
        strict: whether the kinds are all that there are.
    """
    offers: Schema = {"defaultSnippets": [_snippet(f"{kind.name}:", f"{kind.name}: ", kind) for kind in kinds]}
    if strict:
        known = {name for kind in kinds for name in kind.names} | modifiers.keys()
        offers |= {"patternProperties": {_any_of(known): True}, "additionalProperties": False}
    rules = [{"if": _is_meant(kind, kinds), "then": _rule(kind, modifiers, strict)} for kind in kinds if not kind.open]
    return {
        "type": "object",
        "properties": dict(modifiers),
        "minProperties": 1,
        "if": {"anyOf": [{"required": [kind.name]} for kind in kinds]},
        "then": {"allOf": rules},
        "else": offers,
    }


def definitions(kinds: Collection[Kind], modifiers: Collection[str]) -> dict[str, Schema]:
    """What the schemas of these kinds refer to.

    For each: what stands beside it, checked; and, for places where the kind is not sure, the same documented only.
    """
    found: dict[str, Schema] = {}
    for kind in kinds:
        key = documented({"doNotSuggest": True}, kind.text)  # where this is offered, the key is there already
        own: Schema = {"type": "null"} if kind.value is None else {"anyOf": [kind.value, {"type": "null"}]}
        texts = {name: _documentation(schema) for name, schema in kind.arguments.items()}
        found[f"{kind.group}.{kind.name}.hints"] = {"title": kind.name, "properties": {kind.name: key, **texts}}
        found[f"{kind.group}.{kind.name}"] = {
            "title": kind.name,
            "properties": {kind.name: own | key, **kind.arguments},
            "patternProperties": {_any_of({*kind.names, *modifiers} - kind.arguments.keys()): True},
            "required": list(kind.required),
            "additionalProperties": False,
        }
    return found


def _snippet(label: str, body: str, kind: Kind) -> Schema:
    """What editors offer. Labels are not those of words or keys: a server would make one of the two."""
    return {"label": label, **documented({}, kind.text), "body": body}


def _written(kind: Kind) -> str:
    """A kind with places for what has to be given."""
    given = [f"{kind.name}: ${{1:{kind.primary or '…'}}}"]
    return ", ".join(given + [f"{name}: ${{{number}:{name}}}" for number, name in enumerate(kind.required, 2)])


def _reference(kind: Kind, part: str = "") -> Schema:
    return {"$ref": f"#/definitions/{kind.group}.{kind.name}" + (f".{part}" if part else "")}


def _documentation(schema: Schema) -> Schema:
    return {key: schema[key] for key in ("description", "markdownDescription") if key in schema}


def _is_meant(kind: Kind, kinds: Collection[Kind]) -> Schema:
    """Whether it is of this kind: with its key, and without a kind whose argument it is: `{lstm: 64, dropout: 0.1}`."""
    owners = [{"required": [other.name]} for other in kinds if kind.name in other.names and other is not kind]
    return {"required": [kind.name], **({"not": {"anyOf": owners}} if owners else {})}


def _rule(kind: Kind, modifiers: Collection[str], strict: bool) -> Schema:
    if strict:
        return _reference(kind)
    keys: dict[str, Any] = {"pattern": _any_of({kind.name, *kind.names, *modifiers})}
    return {"if": {"propertyNames": keys}, "then": _reference(kind), "else": _reference(kind, "hints")}


def _any_of(names: Iterable[str]) -> str:
    """A pattern for any of these names; for nothing where there are none."""
    return "^(?:" + "|".join(sorted(names)) + ")$"
