"""What numbers that differ between the uses of a block are, as expressions of its arguments.

An expression is taken only if it gives the right value at every use, so the source is right by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from compiler.source.construction import Chain, Expression, New, Raw

Columns = Mapping[str, Sequence[Any]]  # arguments by name, a value for each use


class Extra:
    """Arguments that a class needs beside those of its block: values that no expression of these gives."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}

    def add(self, name: str, values: Sequence[Any]) -> Raw:
        """The name of an argument with these values: an earlier one's, where that has the same."""
        for known, column in self.columns.items():
            if column == list(values):
                return Raw(known)
        unique, count = name, 2
        while unique in self.columns:
            unique, count = f"{name}{count}", count + 1
        self.columns[unique] = list(values)
        return Raw(unique)


def unified(name: str, uses: Sequence[Expression], columns: Columns, extra: Extra) -> Expression:
    """One expression for all uses of a class, whose differing values are expressions of the class's arguments.

    Args:
        name: of the child, after which an argument is called that has to be added.
    """
    first = uses[0]
    if isinstance(first, Chain):
        members = {
            key: unified(f"{name}_{key}", [use.members[key] for use in uses if isinstance(use, Chain)], columns, extra)
            for key in first.members
        }
        return Chain(members, first.named, first.dense)
    arguments = {}
    for key in first.arguments:
        values = [use.arguments[key] for use in uses if isinstance(use, New)]
        if all(value == values[0] and type(value) is type(values[0]) for value in values):
            arguments[key] = values[0]
        else:
            arguments[key] = fitted(values, columns) or extra.add(f"{name}_{key}", values)
    return New(first.callee, arguments, first.required, first.defaults, first.source)


def fitted(values: Sequence[Any], columns: Columns) -> Raw | None:
    """The simplest expression of the arguments that gives these values: one of them, a multiple, a part, a sum."""
    for name, column in columns.items():
        if all(type(a) is type(b) and a == b for a, b in zip(values, column, strict=True)):
            return Raw(name)
    if not _whole(values):
        return None
    numbers = {name: column for name, column in columns.items() if _whole(column)}
    for name, column in numbers.items():
        factor = values[0] // column[0] if column[0] else 0
        if factor > 1 and all(a == factor * b for a, b in zip(values, column, strict=True)):
            return Raw(f"{factor} * {name}")
        divisor = column[0] // values[0] if values[0] else 0
        if divisor > 1 and all(a == b // divisor for a, b in zip(values, column, strict=True)):
            return Raw(f"{name} // {divisor}")
    for (one, left), (other, right) in permutations(numbers.items(), 2):
        if all(a == b + c for a, b, c in zip(values, left, right, strict=True)):
            return Raw(f"{one} + {other}")
        if right[0] and (values[0] - left[0]) % right[0] == 0:
            factor = (values[0] - left[0]) // right[0]
            if factor > 1 and all(a == b + factor * c for a, b, c in zip(values, left, right, strict=True)):
                return Raw(f"{one} + {factor} * {other}")
    return None


def _whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
