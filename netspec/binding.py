"""From YAML nodes to checked arguments: expressions are evaluated, names and types checked against a pydantic model."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Collection
from collections.abc import Mapping as Scope
from functools import lru_cache
from typing import Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from netspec import expressions
from netspec.diagnostics import Diagnostic, Label, did_you_mean, nearest
from netspec.expressions import ExpressionError
from netspec.source import Span
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_ANY_WORD = frozenset({"*"})


class Refused(Exception):
    """Carries what is wrong with an argument."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = diagnostics


class NotKnown(Exception):
    """A value depends on a shape that an earlier mistake has left unknown; nothing more is to be said of it."""


def if_known(make: Callable[[], T], report: Callable[[Diagnostic], None]) -> T | None:
    """What `make` gives; None where it is refused, which is reported, or not known."""
    try:
        return make()
    except Refused as refused:
        for diagnostic in refused.diagnostics:
            report(diagnostic)
    except NotKnown:
        pass
    return None


def value_of(node: Node, scope: Scope[str, Any], words: frozenset[str] = frozenset()) -> Any:
    """The value of a node: data as it stands, text as an expression unless it is one of the `words` that are expected.

    Raises:
        Refused: an expression is wrong.
        NotKnown: it depends on a shape that is not known.
    """
    if isinstance(node, Sequence):
        return tuple(value_of(item, scope, words) for item in node.items)
    if isinstance(node, Mapping):
        return {key: value_of(entry.value, scope, words) for key, entry in node.entries.items()}
    if not isinstance(node.value, str):
        return node.value
    if node.text not in scope and (node.text in words or words is _ANY_WORD):
        return node.text
    if node.quoted and "\n" in node.text:
        return node.text
    return evaluate(node, scope, words)


def evaluate(node: Scalar, scope: Scope[str, Any], words: frozenset[str] = frozenset()) -> Any:
    """The value of an expression.

    Raises:
        Refused: it is not well-formed, reads what is not in scope, or can't be calculated.
        NotKnown: it depends on a shape that is not known.
    """
    text = node.text
    try:
        result = scope[text] if text in scope else expressions.evaluate(expressions.parse(text), scope)
    except ExpressionError as error:
        raise Refused(_expression_error(node, error, scope, words)) from None
    if result is None:
        raise NotKnown
    return result


def _expression_error(
    node: Scalar, error: ExpressionError, scope: Scope[str, Any], words: frozenset[str]
) -> Diagnostic:
    span = node.span.within(error.start + node.quoted, error.length)
    if error.unknown is None:
        help = ""
        if "is not closed" in error.message and not node.quoted:
            help = 'inside `{…}` and `[…]` a comma ends the value: quote it, as in `"max(1, width)"`'
        return Diagnostic("expression", error.message, span, help=help)
    if error.message.startswith("there is no function"):
        help = did_you_mean(error.unknown, expressions.FUNCTIONS)
        return Diagnostic("unknown-name", error.message, span, help=help)
    if error.unknown == "i":
        help = "`i` counts the turns of a `repeat`, and this layer has none"
        return Diagnostic("unknown-name", error.message, span, help=help)
    if error.unknown in ("on", "off", "yes", "no"):
        truth = "true" if error.unknown in ("on", "yes") else "false"
        return Diagnostic(
            "unknown-name", f"`{error.unknown}` is a word, not a truth value", span, help=f"write `{truth}`"
        )
    names = {*scope, *words, *expressions.FUNCTIONS} if words else {*scope, *expressions.FUNCTIONS}
    tensors = {name for name, value in scope.items() if isinstance(value, expressions.Shaped)}
    known = sorted({*scope, *words} - tensors - {"i", "*"})
    help = did_you_mean(error.unknown, names - {"*"})
    if not help.startswith("did"):
        shown = ", ".join(f"`{name}`" for name in known)
        help = f"what may stand here: {shown}" if known else "an argument is declared in `args` before it is used"
    return Diagnostic("unknown-name", error.message, span, help=help)


def bind(
    model: type[M],
    given: Scope[str, Entry],
    scope: Scope[str, Any],
    what: str,
    where: Span,
    primary: tuple[str, Node, Span] | None = None,
) -> M:
    """The model with its arguments as given.

    Args:
        given: the arguments as written, by key.
        scope: the names that expressions may read.
        what: what the arguments belong to, for messages: "`conv`".
        where: the place to name when an argument is missing.
        primary: the name, value and place of the argument that the kind's own value sets.

    Raises:
        Refused: with every mistake found.
        NotKnown: a value depends on a shape that is not known.
    """
    found: list[Diagnostic] = []
    values: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    unknown_value = False
    allowed = {name: _words(model, name) for name in model.model_fields}
    todo: list[tuple[str, Node]] = []
    if primary is not None:
        todo.append((primary[0], primary[1]))
    for key, entry in given.items():
        if primary is not None and key == primary[0]:
            label = Label(primary[2], "this value already sets it")
            found.append(Diagnostic("duplicate-key", f"{what} is given `{key}` twice", entry.key.span, labels=(label,)))
        elif key not in allowed:
            known = [name for name in allowed if primary is None or name != primary[0]]
            help = did_you_mean(key, known) or (
                "it takes " + ", ".join(f"`{name}`" for name in known) if known else "it takes no arguments"
            )
            found.append(Diagnostic("unknown-argument", f"{what} has no argument `{key}`", entry.key.span, help=help))
        else:
            todo.append((key, entry.value))
    for name, node in todo:
        spans[name] = node.span
        try:
            value = value_of(node, scope, allowed[name])
        except Refused as refused:
            found.extend(refused.diagnostics)
            unknown_value = True
        except NotKnown:
            unknown_value = True
        else:
            if value is not None or not _required(model, name):
                values[name] = value
    missing = [
        name for name in model.model_fields if name not in values and name not in spans and _required(model, name)
    ]
    missing += [name for name in spans if name not in values and _required(model, name) and not unknown_value]
    strange = [key for key in given if key not in allowed]
    for name in missing:
        if not any(nearest(key, [name]) for key in strange):  # a mistyped argument is told once
            found.append(_missing(model, name, what, spans.get(name, where)))
    if not unknown_value and not found:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise Refused(*_type_errors(model, values, spans, error)) from None
    found.extend(_partial_errors(model, values, spans, set(missing) | (set(spans) - set(values))))
    if found:
        raise Refused(*found)
    raise NotKnown


def _required(model: type[BaseModel], name: str) -> bool:
    return model.model_fields[name].is_required()


def _missing(model: type[BaseModel], name: str, what: str, where: Span) -> Diagnostic:
    expected = describe(model.model_fields[name].annotation, tuple(model.model_fields[name].metadata))
    first = next(iter(model.model_fields))
    example = f"`{what[1:-1]}: …`" if name == first and what.startswith("`") else f"`{name}: …`"
    help = getattr(model, "help", f"add {example}, {expected}")
    return Diagnostic("missing-argument", f"{what} needs the argument `{name}`", where, help=help)


def _partial_errors(
    model: type[BaseModel], values: dict[str, Any], spans: dict[str, Span], excused: Collection[str]
) -> list[Diagnostic]:
    """Mistakes among the values that could be had, when others are missing."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return _type_errors(model, values, spans, error, excused)
    return []


def _type_errors(
    model: type[BaseModel],
    values: dict[str, Any],
    spans: dict[str, Span],
    error: ValidationError,
    excused: Collection[str] = (),
) -> list[Diagnostic]:
    grouped: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(str(detail["loc"][0]), []).append(detail)
    return [
        _type_error(model, name, values[name], spans[name], details)
        for name, details in grouped.items()
        if name not in excused
    ]


_BOUND = {
    "greater_than_equal": ("at least {ge}", "ge"),
    "greater_than": ("more than {gt}", "gt"),
    "less_than_equal": ("at most {le}", "le"),
    "less_than": ("less than {lt}", "lt"),
}


def _type_error(model: type[BaseModel], name: str, value: Any, span: Span, details: list[Any]) -> Diagnostic:
    field = model.model_fields[name]
    for detail in details:
        if detail["type"] in _BOUND:
            bound = _BOUND[detail["type"]][0].format(**detail["ctx"])
            key = next((part for part in detail["loc"][1:] if isinstance(value, dict)), None)
            which = f"`{key}` in `{name}`" if key is not None else f"`{name}`"
            message = f"{which} must be {bound}, got {show(detail['input'])}"
            return Diagnostic("out-of-range", message, span, help=_left_out(name, field))
    expected = describe(field.annotation, tuple(field.metadata))
    words = [word for word in _words(model, name) if word != "*"]
    help = did_you_mean(value, words) if isinstance(value, str) and words else ""
    if isinstance(value, float) and math.isfinite(value) and expected.startswith(_NAMES[int]):
        help = help or _whole(value, span)
    return Diagnostic("wrong-type", f"`{name}` takes {expected}, got {show(value)}", span, help=help)


def _left_out(name: str, field: FieldInfo) -> str:
    """What an argument is that isn't given, where that is a number or nothing."""
    default = field.default
    if field.is_required() or isinstance(default, bool):
        return ""
    if isinstance(default, int | float):
        return f"`{name}` is {default:g} where it is left out"
    return f"`{name}` may be left out" if default is None else ""


def _whole(value: float, span: Span) -> str:
    """How a whole number is made of a fraction: of one that is written out, the number; of an expression, rounded."""
    quote = '"' if span.text.startswith(("'", '"')) else ""
    text = span.text.strip("'\"")
    if re.fullmatch(r"[\d._eE+-]+", text) or not text:
        return f"write `{int(value)}`" if value.is_integer() else ""
    lower, upper = (f"`{quote}{rounded}({text}){quote}`" for rounded in ("floor", "ceil"))
    if value.is_integer():
        return f"what is calculated with a fraction stays one: write {lower}"
    return f"write {lower}, which is {math.floor(value)}, or {upper}, which is {math.ceil(value)}"


def show(value: Any) -> str:
    """A value as a person would write it in a spec, with its type where that is the point."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, str):
        return f"the text `{value[:40]}`"
    if isinstance(value, expressions.Shaped):
        return "a tensor (say which of its sizes: `in.channels`)"
    if isinstance(value, tuple):
        return f"the list {_written(value)}"
    if isinstance(value, dict):
        return "a mapping"
    return str(value)


def _written(value: Any) -> str:
    """A value as it stands in YAML, a long list cut short."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_written(item) for item in value[:8]) + ("]" if len(value) <= 8 else ", …]")
    return str(value).lower() if isinstance(value, bool) else "~" if value is None else str(value)


@lru_cache(maxsize=1024)
def _words(model: type[BaseModel], name: str) -> frozenset[str]:
    """The words that an argument takes as they stand; `_ANY_WORD` for free text."""
    return _words_of(model.model_fields[name].annotation)


def _words_of(annotation: Any) -> frozenset[str]:
    if annotation is str:
        return _ANY_WORD
    if typing.get_origin(annotation) is Literal:
        return frozenset(word for word in typing.get_args(annotation) if isinstance(word, str))
    parts = [_words_of(part) for part in typing.get_args(annotation)]
    return _ANY_WORD if any(part is _ANY_WORD for part in parts) else frozenset().union(*parts)


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): ""}


def describe(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """What an argument takes, in words: "a whole number of at least 1, or a list of them"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return describe(parts[0], (*metadata, *_constraints(parts[1:])))
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in parts)
    if origin in (typing.Union, types.UnionType):
        first = next((part for part in parts if _base(part) in _NAMES), None)
        texts = [
            "a list of them"
            if first is not None
            and _base(part) is tuple
            and describe(typing.get_args(_bare(part))[0]) == describe(first)
            else describe(part)
            for part in parts
            if part is not type(None)
        ]
        return ", or ".join(texts)
    if origin is tuple:
        return f"a list{' of two' if len(parts) == 2 and parts[1] is not ... else ''}, each {describe(parts[0])}"
    text = _NAMES.get(annotation, "a mapping")
    bounds = _constraints(metadata)
    low = next((f"of at least {b.ge}" for b in bounds if isinstance(b, Ge)), None) or next(
        (f"more than {b.gt}" for b in bounds if isinstance(b, Gt)), ""
    )
    high = next((f"at most {b.le}" for b in bounds if isinstance(b, Le) and b.le != 2**31 - 1), "") or next(
        (f"less than {b.lt}" for b in bounds if isinstance(b, Lt)), ""
    )
    limits = " and ".join(part for part in (low, high) if part)
    return f"{text} {limits}".strip()


def _constraints(metadata: tuple[Any, ...]) -> tuple[Any, ...]:
    """Bounds, also those that stand inside a pydantic `Field`."""
    flat: list[Any] = []
    for item in metadata:
        flat.extend(getattr(item, "metadata", ()) or (item,))
    return tuple(flat)


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _base(annotation: Any) -> Any:
    bare = _bare(annotation)
    return typing.get_origin(bare) or bare
