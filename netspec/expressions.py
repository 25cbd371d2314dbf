"""Expressions in specs: arithmetic, comparison, `and/or/not` and `a if c else b` over the names in scope.

Grammar, loosest first: conditional, or, and, not, comparison, `+ -`, `* / // %`, unary minus, `**`, then names,
numbers, `in.channels`, `name[index]` and the functions `min max ceil floor abs len`. Length, depth and magnitude are
bounded.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

MAX_LENGTH = 400
MAX_DEPTH = 20
MAX_MAGNITUDE = 2**63

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "ceil": math.ceil,
    "floor": math.floor,
    "abs": abs,
    "len": len,
}
KEYWORDS = frozenset({"if", "else", "and", "or", "not", "true", "false", "True", "False"})


class ExpressionError(Exception):
    """What is wrong with an expression, and where in its text (`start`, `length`, in characters)."""

    def __init__(self, message: str, start: int = 0, length: int = 1, unknown: str | None = None) -> None:
        super().__init__(message)
        self.message, self.start, self.length = message, start, length
        self.unknown = unknown


class Shaped(NamedTuple):
    """What `in` is in an expression: attributes of the tensor that comes in, None where not known."""

    attributes: Mapping[str, int | None]


@dataclass(slots=True, eq=False)
class Token:
    kind: str  # number, name, op, end
    text: str
    start: int


@dataclass(slots=True, eq=False)
class Tree:
    """A node of a parsed expression; `op` is an operator, a function's name, or number/name/attribute/index/if."""

    op: str
    children: tuple[Tree, ...]
    value: Any
    start: int
    length: int


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![A-Za-z_])"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<op>\*\*|//|==|!=|<=|>=|[-+*/%<>()\[\],.]))"
)


def _tokens(text: str) -> list[Token]:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(text):,} characters is too long (at most {MAX_LENGTH:,})")
    tokens: list[Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise ExpressionError(f"`{text[start]}` has no meaning in an expression", start)
        kind = match.lastgroup or "op"
        tokens.append(Token(kind, match.group(kind), match.start(kind)))
        position = match.end()
    tokens.append(Token("end", "", end))
    return tokens


_BINARY: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "==": (4, operator.eq), "!=": (4, operator.ne), "<": (4, operator.lt), "<=": (4, operator.le),
    ">": (4, operator.gt), ">=": (4, operator.ge), "+": (5, operator.add), "-": (5, operator.sub),
    "*": (6, operator.mul), "/": (6, lambda a, b: _divide(a, b)), "//": (6, operator.floordiv),
    "%": (6, operator.mod), "**": (8, lambda a, b: _power(a, b)),
}  # fmt: skip


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.position = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def accept(self, text: str) -> bool:
        if self.next.text == text and self.next.kind not in ("number", "text"):
            self.position += 1
            return True
        return False

    def expect(self, text: str, opened: Token) -> None:
        if not self.accept(text):
            raise ExpressionError(f"`{opened.text}` is not closed by `{text}`", opened.start)

    def node(self, op: str, children: tuple[Tree, ...], value: Any, start: int) -> Tree:
        last = self.tokens[self.position - 1]
        return Tree(op, children, value, start, last.start + len(last.text) - start)

    def whole(self) -> Tree:
        tree = self.conditional()
        if self.next.kind != "end":
            raise ExpressionError(f"`{self.next.text}` is not expected here", self.next.start, len(self.next.text))
        return tree

    def conditional(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels", self.next.start)
        start = self.next.start
        tree = self.either()
        if self.accept("if"):
            condition = self.either()
            if not self.accept("else"):
                raise ExpressionError("`a if c` needs `else b`", self.next.start)
            tree = self.node("if", (condition, tree, self.conditional()), None, start)
        self.depth -= 1
        return tree

    def either(self) -> Tree:
        tree = self.both()
        while self.accept("or"):
            tree = self.node("or", (tree, self.both()), None, tree.start)
        return tree

    def both(self) -> Tree:
        tree = self.negation()
        while self.accept("and"):
            tree = self.node("and", (tree, self.negation()), None, tree.start)
        return tree

    def negation(self) -> Tree:
        start, count = self.next.start, 0
        while self.accept("not"):
            count += 1
        tree = self.binary(4)
        for _ in range(2 - count % 2 if count else 0):  # two are enough for an even number of them
            tree = self.node("not", (tree,), None, start)
        return tree

    def binary(self, level: int) -> Tree:
        tree = self.unary()
        while True:
            precedence = _BINARY.get(self.next.text, (0, None))[0] if self.next.kind == "op" else 0
            if precedence < level:
                return tree
            op = self.take().text
            # `**` binds to the right, the others to the left
            right = self.unary() if op == "**" else self.binary(precedence + 1)
            tree = self.node(op, (tree, right), None, tree.start)

    def unary(self) -> Tree:
        start, negative = self.next.start, False
        while self.next.text in ("-", "+") and self.next.kind == "op":
            negative ^= self.take().text == "-"
        tree = self.postfix()
        if self.next.text == "**":
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels", self.next.start)
            self.take()
            tree = self.node("**", (tree, self.unary()), None, tree.start)
            self.depth -= 1
        return self.node("negative", (tree,), None, start) if negative else tree

    def postfix(self) -> Tree:
        tree = self.atom()
        while True:
            opened = self.next
            if self.accept("."):
                name = self.take()
                if name.kind != "name":
                    raise ExpressionError("a name is expected after `.`", name.start)
                tree = self.node("attribute", (tree,), name.text, tree.start)
            elif self.accept("["):
                index = self.conditional()
                self.expect("]", opened)
                tree = self.node("index", (tree, index), None, tree.start)
            else:
                return tree

    def atom(self) -> Tree:
        token = self.take()
        if token.kind == "number":
            digits = token.text.replace("_", "")
            if len(digits) > 40:
                raise ExpressionError(f"a number of {len(digits)} digits is too large", token.start, len(token.text))
            return self.node("number", (), int(digits) if digits.isdigit() else float(digits), token.start)
        if token.kind == "text":
            return self.node("number", (), token.text[1:-1], token.start)
        if token.text in ("true", "True", "false", "False"):
            return self.node("number", (), token.text.lower() == "true", token.start)
        if token.kind == "name" and token.text not in KEYWORDS:
            if self.next.text == "(":
                return self.call(token)
            return self.node("name", (), token.text, token.start)
        if token.text == "(":
            tree = self.conditional()
            self.expect(")", token)
            return tree
        found = f"`{token.text}`" if token.text else "the end"
        raise ExpressionError(f"a value is expected, {found} found", token.start, max(1, len(token.text)))

    def call(self, name: Token) -> Tree:
        if name.text not in FUNCTIONS:
            raise ExpressionError(f"there is no function `{name.text}`", name.start, len(name.text), name.text)
        opened = self.take()
        arguments = [self.conditional()]
        while self.accept(","):
            arguments.append(self.conditional())
        self.expect(")", opened)
        several = name.text in ("min", "max")
        if (len(arguments) > 1) != several:
            wanted = "two numbers or more" if several else "one list" if name.text == "len" else "one number"
            raise ExpressionError(f"`{name.text}` takes {wanted}", name.start, len(name.text))
        return self.node("call", tuple(arguments), name.text, name.start)


@lru_cache(maxsize=65536)
def parse(text: str) -> Tree:
    """The tree of an expression.

    Raises:
        ExpressionError: it is not well-formed or out of bounds.
    """
    return _Parser(text).whole()


def names(tree: Tree) -> frozenset[str]:
    """The names that an expression reads."""
    own = {tree.value} if tree.op == "name" else set()
    return frozenset(own).union(*(names(child) for child in tree.children))


def _divide(a: Any, b: Any) -> Any:
    """Exact where the quotient is whole, so that `width / 2` is a channel count."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    if whole and abs(base) > 1 and exponent * (abs(base).bit_length() - 1) > 64:
        raise OverflowError  # known without calculating it
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a root of a negative number")
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def evaluate(tree: Tree, scope: Mapping[str, Any]) -> Any:
    """The value of an expression; None where it depends on a shape that is not known.

    Raises:
        ExpressionError: a name is not in scope, or the operation makes no sense.
    """
    op, children = tree.op, tree.children
    if op == "number":
        return tree.value
    if op == "name":
        if tree.value not in scope:
            raise ExpressionError(f"nothing is called `{tree.value}` here", tree.start, tree.length, tree.value)
        return scope[tree.value]
    if op == "if":
        condition = evaluate(children[0], scope)
        if condition is None:
            return None
        return evaluate(children[1] if condition else children[2], scope)
    if op in ("and", "or"):
        left = evaluate(children[0], scope)
        if left is None:
            return None
        return evaluate(children[1], scope) if bool(left) == (op == "and") else left
    values = [evaluate(child, scope) for child in children]
    if any(value is None for value in values):
        return None
    if op == "attribute":
        return _attribute(tree, values[0])
    if op == "not":
        return not values[0]
    if op == "index":
        return _index(tree, values[0], values[1])
    if op == "call" and tree.value == "len":
        return _length(tree, values[0])
    return _arithmetic(tree, values)


def _attribute(tree: Tree, value: Any) -> Any:
    if not isinstance(value, Shaped):
        raise ExpressionError(f"`.{tree.value}` is asked of something that is not a tensor", tree.start, tree.length)
    if tree.value not in value.attributes:
        known = ", ".join(f"in.{name}" for name in value.attributes)
        raise ExpressionError(f"`in` has no `{tree.value}`; it has {known}", tree.start, tree.length)
    return value.attributes[tree.value]


def _index(tree: Tree, value: Any, index: Any) -> Any:
    if not isinstance(value, tuple) or isinstance(value, Shaped):
        raise ExpressionError("only a list can be indexed", tree.start, tree.length)
    if not isinstance(index, int) or not -len(value) <= index < len(value):
        raise ExpressionError(f"index {index} is outside a list of {len(value)}", tree.start, tree.length)
    return value[index]


def _length(tree: Tree, value: Any) -> int:
    if not isinstance(value, tuple) or isinstance(value, Shaped):
        raise ExpressionError("only a list has a length", tree.start, tree.length)
    return len(value)


def _arithmetic(tree: Tree, values: list[Any]) -> Any:
    equality = tree.op in ("==", "!=")
    for child, value in zip(tree.children, values, strict=True):
        if isinstance(value, Shaped):
            raise ExpressionError("`in` is a tensor; say which of its sizes, as in `in.channels`", child.start, 2)
        if not equality and not _is_number(value):
            shown = "a truth value" if isinstance(value, bool) else f"`{value}`"
            raise ExpressionError(f"arithmetic needs numbers, found {shown}", child.start, child.length)
    try:
        if tree.op == "negative":
            return -values[0]
        result = FUNCTIONS[tree.value](*values) if tree.op == "call" else _BINARY[tree.op][1](*values)
    except ZeroDivisionError:
        raise ExpressionError("division by zero", tree.start, tree.length) from None
    except OverflowError:
        raise ExpressionError("the result is too large", tree.start, tree.length) from None
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"this can't be calculated: {error}", tree.start, tree.length) from None
    if not isinstance(result, bool) and abs(result) > MAX_MAGNITUDE:
        raise ExpressionError("the result is too large", tree.start, tree.length)
    return result


_SIGNS = {"*": "×", "-": "−"}


def spelled_out(text: str, scope: Mapping[str, Any]) -> str:
    """Arithmetic with the values of its names: `anchors * (4 + 2)` as `9 × (4 + 2)`; "" for what is none.

    Raises:
        ExpressionError: as `evaluate`.
    """
    tree = parse(text)
    return _spelled_out(tree, scope, 0) if _precedence(tree) > _BINARY["=="][0] else ""


def _spelled_out(tree: Tree, scope: Mapping[str, Any], level: int) -> str:
    """A sum, product or power as text, in brackets where it binds looser than `level`; the value of all else."""
    precedence = _precedence(tree)
    if not precedence:
        value = evaluate(tree, scope)
        found = f"{value:.6g}" if isinstance(value, float) else str(value)
        return f"({found})" if level and found.startswith("-") else found
    levels = (precedence, precedence + 1) if tree.op != "**" else (precedence + 1, precedence)
    left, right = (_spelled_out(child, scope, level) for child, level in zip(tree.children, levels, strict=True))
    found = f"{left} {_SIGNS.get(tree.op, tree.op)} {right}"
    return f"({found})" if precedence < level else found


def _precedence(tree: Tree) -> int:
    return _BINARY[tree.op][0] if tree.op in _BINARY else 0
