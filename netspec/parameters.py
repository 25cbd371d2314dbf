"""The arguments that a block or a network declares, and the values that they are given.

A declaration is a default (`stride: 1`), a type (`width: int`), or both with bounds
(`kernel: {type: int, default: 3, min: 1}`). A value of type `layer` is a layer: its word is a kind in the block's body.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from netspec.binding import NotKnown, Refused, bind, if_known, show, value_of
from netspec.diagnostics import Diagnostic, Findings, Label, did_you_mean
from netspec.layers import find_op
from netspec.names import bad_name
from netspec.source import Span
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence


@dataclass(slots=True)
class LayerValue:
    """A layer given as an argument.

    Attributes:
        node: as it is written.
        variables: what its own expressions may read: the names in scope where it stands.
    """

    node: Node
    variables: dict[str, Any]

    @property
    def word(self) -> str | None:
        """The kind, where it is given without arguments."""
        return self.node.text if isinstance(self.node, Scalar) else None

    @property
    def text(self) -> str:
        """The layer as YAML on one line."""
        if self.word is not None:
            return self.word
        from netspec.extension import written_out  # for layers with arguments of their own

        return " ".join(written_out(self.node).split())

    def __str__(self) -> str:
        return f"the layer `{self.word}`" if self.word else "a layer"


def as_data(arguments: dict[str, Any]) -> dict[str, Any]:
    """The values of arguments as plain data: a layer is its text."""
    return {name: value.text if isinstance(value, LayerValue) else value for name, value in arguments.items()}


TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "list": tuple, "layer": LayerValue}
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a list"}


@dataclass(slots=True, eq=False)
class Parameter:
    """An argument that a block or a network declares. `default` is None where one has to be given."""

    name: str
    type: type | None
    default: Node | None
    span: Span
    bounds: _Declared | None = None


_BOUNDED = {"min": ("int", "float"), "max": ("int", "float"), "multiple": ("int",)}  # the types that bounds are of


class _Declared(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True)

    type: Literal["int", "float", "bool", "str", "list", "layer"]
    min: int | float | None = None
    max: int | float | None = None
    multiple: Annotated[int, Field(ge=1)] | None = None
    choices: tuple[int | float | str, ...] | None = None
    help: str = ""


def read_section(entry: Entry | None, findings: Findings, example: str) -> Mapping | None:
    """The mapping that a section holds; None where it is empty or, which is told, is no mapping."""
    if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
        return None
    if not isinstance(entry.value, Mapping):
        message = f"`{entry.key.text}` takes a mapping"
        findings.add(Diagnostic("wrong-type", message, entry.value.span, help=f"write {example}"))
        return None
    return entry.value


def read_parameters(entry: Entry | None, findings: Findings) -> dict[str, Parameter]:
    """The arguments that an `args` section declares."""
    section = read_section(entry, findings, "`args: {width: 64}`")
    parameters: dict[str, Parameter] = {}
    for name, item in section.entries.items() if section else ():
        wrong = bad_name(item.key, "an argument")
        if wrong:
            findings.add(wrong)
            continue
        node = item.value
        if isinstance(node, Scalar) and not node.quoted and node.text in TYPES:
            parameters[name] = Parameter(name, TYPES[node.text], None, item.key.span)
        elif isinstance(node, Scalar) and node.value is None:
            help = "give a default, or one of the types " + ", ".join(TYPES)
            message = f"the argument `{name}` has no type and no default"
            findings.add(Diagnostic("wrong-type", message, node.span, help=help))
        elif isinstance(node, Mapping):
            declared = _read_declared(name, item, node, findings)
            if declared is not None:
                parameters[name] = declared
        else:
            literal = (
                type(node.value)
                if isinstance(node, Scalar) and (node.quoted or not isinstance(node.value, str))
                else None
            )
            parameters[name] = Parameter(name, tuple if isinstance(node, Sequence) else literal, node, item.key.span)
    return parameters


def _read_declared(name: str, item: Entry, node: Mapping, findings: Findings) -> Parameter | None:
    """An argument with its type, default and bounds spelled out."""
    rest = {key: entry for key, entry in node.entries.items() if key != "default"}
    bounds = if_known(lambda: bind(_Declared, rest, {}, f"the argument `{name}`", item.key.span), findings.add)
    if bounds is None:
        return None
    for key, types in _BOUNDED.items():
        if key in rest and bounds.type not in types:
            message = f"`{key}` is for {' and '.join(types)}, and `{name}` is of type `{bounds.type}`"
            findings.add(Diagnostic("wrong-type", message, rest[key].key.span, help="leave it out"))
            return None
    if "choices" in rest and bounds.type == "list":
        message = f"`choices` are of single values, and `{name}` is a list"
        findings.add(Diagnostic("wrong-type", message, rest["choices"].key.span, help="leave it out"))
        return None
    if bounds.choices == ():
        message = f"`choices` is empty, so that `{name}` can't be anything"
        findings.add(
            Diagnostic("wrong-type", message, rest["choices"].value.span, help="list the values, or leave it out")
        )
        return None
    default = node.entries["default"].value if "default" in node.entries else None
    if isinstance(default, Scalar) and default.value is None:
        default = None
    return Parameter(name, TYPES[bounds.type], default, item.key.span, bounds)


def read_arguments(parameters: dict[str, Parameter], overrides: dict[str, Entry], findings: Findings) -> dict[str, Any]:
    """The values of a network's arguments: those set from outside, else its own."""
    for name, entry in overrides.items():
        if name not in parameters:
            help = did_you_mean(name, parameters) or "it has no arguments"
            findings.add(
                Diagnostic("unknown-argument", f"the spec has no argument `{name}`", entry.key.span, help=help)
            )
    given = {name: entry for name, entry in overrides.items() if name in parameters}
    arguments, wrong = bind_parameters(parameters, given, {}, "the spec", None)
    for diagnostic in wrong:
        findings.add(diagnostic)
    return arguments


def bind_parameters(
    parameters: dict[str, Parameter],
    given: dict[str, Entry],
    scope: dict[str, Any],
    what: str,
    where: Span | None,
    excused: Collection[str | None] = (),
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """Values for declared arguments: those given, in the caller's scope, then defaults, in the scope of those before.

    Nothing is said of those `excused` that are missing.
    A value that can't be had is None: what depends on it is not known either, and nothing more is said of it.
    """
    arguments: dict[str, Any] = {}
    wrong: list[Diagnostic] = []
    for name, parameter in parameters.items():
        entry = given.get(name)
        node = entry.value if entry else parameter.default
        value = None
        if node is None:
            if name not in excused:
                wrong.append(_missing(parameter, what, where))
        else:
            try:
                value = _value(parameter, node, scope if entry else arguments)
                _check(parameter, value, node.span, declared_here=entry is not None)
            except Refused as refused:
                word = node.text if isinstance(node, Scalar) and entry is None and node.text not in parameters else ""
                wrong.extend(_quoted(name, word, mistake) for mistake in refused.diagnostics)
                value = None
            except NotKnown:
                pass
        arguments[name] = value
    return arguments, wrong


def _quoted(name: str, word: str, mistake: Diagnostic) -> Diagnostic:
    """What is wrong with a default, with how text is written where it is a bare word, and a layer where it is an op."""
    if mistake.code != "unknown-name" or not word.isidentifier():
        return mistake
    help = f'text is quoted: `{name}: "{word}"`'
    if find_op(word) is not None:
        help = f"a layer is declared as one: `{name}: {{type: layer, default: {word}}}`; {help}"
    return replace(mistake, help=f"{mistake.help} {help}" if mistake.help.startswith("did you mean") else help)


def _missing(parameter: Parameter, what: str, where: Span | None) -> Diagnostic:
    name = parameter.name
    kind = next((word for word, known in TYPES.items() if known is parameter.type), "value")
    label = (Label(parameter.span, "declared here"),) if where else ()
    help = f"add `{name}: …` ({kind})" if where else f"give it with `--set {name}=…`, or a default here"
    notes = (f"`{name}`: {parameter.bounds.help}",) if parameter.bounds and parameter.bounds.help else ()
    message = f"{what} needs the argument `{name}`"
    return Diagnostic("missing-argument", message, where or parameter.span, labels=label, notes=notes, help=help)


def _value(parameter: Parameter, node: Node, names: dict[str, Any]) -> Any:
    if parameter.type is LayerValue:
        passed_on = names.get(node.text) if isinstance(node, Scalar) else None
        if passed_on is None and isinstance(node, Scalar) and node.text in names:
            raise NotKnown
        return passed_on if isinstance(passed_on, LayerValue) else LayerValue(node, dict(names))
    if parameter.type is str and isinstance(node, Scalar) and (node.quoted or node.text not in names):
        return node.text
    return value_of(node, names)


def _check(parameter: Parameter, value: Any, span: Span, declared_here: bool) -> None:
    """Holds a value against an argument's type and bounds."""
    mistake = _type_mistake(parameter, value) or _bounds_mistake(parameter, value)
    if mistake is not None:
        code, message, help = mistake
        labels = (Label(parameter.span, "declared here"),) if declared_here else ()
        raise Refused(Diagnostic(code, message, span, labels=labels, help=help))


def _type_mistake(parameter: Parameter, value: Any) -> tuple[str, str, str] | None:
    """The code, message and mend where a value is of another type than the declared one."""
    expected = parameter.type
    fits = (
        (expected is None and not isinstance(value, LayerValue))
        or (expected is float and isinstance(value, int | float) and not isinstance(value, bool))
        or (expected is not None and isinstance(value, expected) and (expected is bool or not isinstance(value, bool)))
    )
    if fits:
        return None
    wanted = _TYPE_NAMES.get(expected, "another type") if expected else "a value"
    help = ""
    if isinstance(value, LayerValue):
        help = f"declare it as a layer where it is taken: `{parameter.name}: layer`"
    return "wrong-type", f"`{parameter.name}` takes {wanted}, got {show(value)}", help


def _bounds_mistake(parameter: Parameter, value: Any) -> tuple[str, str, str] | None:
    bounds = parameter.bounds
    if bounds is None:
        return None
    if bounds.min is not None and value < bounds.min:
        return "out-of-range", f"`{parameter.name}` must be at least {bounds.min}, got {show(value)}", bounds.help
    if bounds.max is not None and value > bounds.max:
        return "out-of-range", f"`{parameter.name}` must be at most {bounds.max}, got {show(value)}", bounds.help
    if bounds.multiple is not None and value % bounds.multiple:
        below = value // bounds.multiple * bounds.multiple
        message = f"`{parameter.name}` must be a multiple of {bounds.multiple}, got {show(value)}"
        return "out-of-range", message, f"the nearest are {below} and {below + bounds.multiple}"
    word = value.word if isinstance(value, LayerValue) else value
    if bounds.choices is not None and word not in bounds.choices:
        known = [str(choice) for choice in bounds.choices]
        help = did_you_mean(str(value), known) or "it is one of " + ", ".join(f"`{word}`" for word in known)
        return "out-of-range", f"`{parameter.name}` can't be {show(value)}", help
    return None
