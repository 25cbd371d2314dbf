"""How a module is made, as an expression of Python: `nn.Conv2d(3, 64, 7, stride=2)`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import nn

from compiler.errors import CompilerError
from compiler.lowering.table import drawn_parameter
from netspec.ops.base import Op
from netspec.ops.table import Parameter

# Where one number stands for all axes.
PER_AXIS = frozenset({"kernel_size", "stride", "padding", "dilation", "output_padding", "output_size"})
WHERE = ("device", "dtype")  # where PyTorch's own modules put their weights, which is not said


@dataclass(frozen=True, slots=True)
class Raw:
    """A piece of Python that stands for a value: an argument's name, an expression."""

    text: str


@dataclass(slots=True)
class New:
    """A call of a class.

    Attributes:
        callee: as it is written: `nn.Conv2d`, `Bottleneck`.
        arguments: every argument by name, in the order of the signature.
        required: the ones without a default, which are given by position.
        defaults: of the others.
        source: the class or function, where it is none of `torch.nn` and its text has to come along.
    """

    callee: str
    arguments: dict[str, Any]
    required: tuple[str, ...] = ()
    defaults: dict[str, Any] | None = None
    source: Callable[..., Any] | None = None


@dataclass(slots=True)
class Chain:
    """Modules that read one another in a row, or each of them all before it; `named` has names rather than numbers."""

    members: dict[str, Expression]
    named: bool
    dense: bool = False


Expression = New | Chain
Shape = tuple[Any, ...]


def shape_of(expression: Expression) -> Shape:
    """What two expressions must have in common to be one with other numbers: the classes, and how they are nested."""
    if isinstance(expression, New):
        return (expression.callee, *expression.arguments)
    members = tuple((name, shape_of(member)) for name, member in expression.members.items())
    return ("dense" if expression.dense else "chain", *members)


def constructor_of(module: nn.Module) -> Expression:
    """What makes a module, from its attributes: they are called as its arguments are.

    Raises:
        CompilerError: an argument can't be told from the module.
    """
    cls = type(module)
    if cls is nn.Sequential:
        return Chain({name: constructor_of(child) for name, child in module.named_children()}, named=False)
    standard = getattr(nn, cls.__name__, None) is cls
    required, defaults = _signature(cls, WHERE if standard else ())
    arguments = {name: _argument(module, name, defaults.get(name, ...)) for name in (*required, *defaults)}
    if standard:
        return New(f"nn.{cls.__name__}", arguments, required, defaults)
    return New(cls.__name__, arguments, required, defaults, source=cls)


def drawn(op: Op) -> New:
    """What makes the tensor of a layer whose module is its container."""
    assert isinstance(op, Parameter)
    required, defaults = _signature(drawn_parameter, ())
    arguments = {name: getattr(op, name) for name in (*required, *defaults)}
    return New(drawn_parameter.__name__, arguments, required, defaults, source=drawn_parameter)


def _signature(cls: Callable[..., Any], without: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments that have to be given, and the defaults of the others."""
    parameters = [
        parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in without and not name.startswith("_") and "VAR" not in parameter.kind.name
    ]
    required = tuple(p.name for p in parameters if p.default is p.empty)
    return required, {p.name: p.default for p in parameters if p.default is not p.empty}


def _argument(module: nn.Module, name: str, default: Any) -> Any:
    if not hasattr(module, name):
        if name == "bias" and hasattr(module, "in_proj_bias"):
            return module.in_proj_bias is not None
        if default is None:
            return None  # an old name of another argument
        raise CompilerError(f"the argument `{name}` of {type(module).__name__} can't be told from the module")
    value = getattr(module, name)
    if isinstance(value, nn.Parameter) or (value is None and name == "bias"):
        return value is not None
    if isinstance(value, nn.Module):
        return constructor_of(value)
    if isinstance(value, list):
        value = tuple(value)
    if callable(value) and not isinstance(value, type):
        return Raw(_function(value))
    if name in PER_AXIS and isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return value


def _function(function: Callable[..., Any]) -> str:
    """A function of PyTorch's, as it is written.

    Raises:
        CompilerError: it is none.
    """
    name = getattr(function, "__name__", "")
    if getattr(torch, name, None) is not function:
        raise CompilerError(f"the function {name or function!r} can't be written out")
    return f"torch.{name}"


def written(expression: Expression, indent: int = 8, width: int = 110) -> str:
    """The expression as Python text, over several lines where it is long."""
    flat = _flat(expression)
    if len(flat) + indent <= width or isinstance(expression, New):
        return flat
    inner = " " * (indent + 4)
    lines = []
    for (name, member), text in zip(expression.members.items(), _rows(expression, indent + 4, width), strict=True):
        del name, member
        if text:
            lines.append(f"{inner}{text},\n")
    opening, closing = _brackets(expression)
    return f"{opening}\n{''.join(lines)}{' ' * indent}{closing}"


def _brackets(chain: Chain) -> tuple[str, str]:
    if chain.dense:
        return "DenseBlock({", "})"
    return ("nn.Sequential(OrderedDict({", "}))") if chain.named else ("nn.Sequential(", ")")


def _rows(chain: Chain, indent: int, width: int) -> list[str]:
    """A line for each member; equal neighbours of a list become one line, and the others are empty."""
    texts = [written(member, indent, width) for member in chain.members.values()]
    if chain.named or chain.dense:
        return [f'"{name}": {text}' for name, text in zip(chain.members, texts, strict=True)]
    rows = []
    index = 0
    while index < len(texts):
        end = index
        while end < len(texts) and texts[end] == texts[index]:
            end += 1
        count = end - index
        rows.append(f"*({texts[index]} for _ in range({count}))" if count > 2 else texts[index])
        rows += [""] * (count - 1) if count > 2 else texts[index + 1 : end]
        index = end
    return rows


def _flat(expression: Expression) -> str:
    if isinstance(expression, Chain):
        opening, closing = _brackets(expression)
        return opening + ", ".join(row for row in _rows(expression, 0, 10**6) if row) + closing
    defaults = expression.defaults or {}
    given = [value_text(expression.arguments[name]) for name in expression.required]
    given += [
        f"{name}={value_text(value)}"
        for name, value in expression.arguments.items()
        if name not in expression.required and not (name in defaults and same(defaults[name], value))
    ]
    return f"{expression.callee}({', '.join(given)})"


def same(default: Any, value: Any) -> bool:
    """Whether an argument is what it would be if it were not given."""
    return type(default) is type(value) and bool(default == value)


def value_text(value: Any) -> str:
    """A value as Python text."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, New | Chain):
        return _flat(value)
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    if isinstance(value, float) and value and abs(value) < 1e-4:
        mantissa, _, exponent = f"{value!r}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
