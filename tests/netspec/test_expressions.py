"""Expressions against Python's own arithmetic, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from netspec.expressions import MAX_LENGTH, ExpressionError, evaluate, parse, spelled_out

SCOPE = {"a": 7, "b": -3, "c": 2.5, "yes": True, "no": False, "ks": (3, 5, 7)}
PYTHON = {
    **SCOPE,
    "min": min,
    "max": max,
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "len": len,
    "__builtins__": {},
}


def value(text: str, **scope: Any) -> Any:
    return evaluate(parse(text), scope or SCOPE)


def python(text: str) -> Any:
    return eval(text, dict(PYTHON))


numbers = (
    st.integers(0, 99).map(str)
    | st.sampled_from(["a", "b", "c", "ks[0]", "ks[-1]", "len(ks)", "1_000", "0.5", "1e2"])
    | st.floats(0, 100).map(lambda x: f"{x:.3f}")
)


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "//", "%"])
    comparisons = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    binary = st.tuples(inner, operators, inner).map(" ".join)
    condition = st.tuples(inner, comparisons, inner).map(" ".join)
    choice = st.tuples(inner, condition, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})")
    call = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})")
    unary = st.tuples(st.sampled_from(["ceil", "floor", "abs"]), inner).map(lambda p: f"{p[0]}({p[1]})")
    power = st.tuples(inner, st.integers(0, 3)).map(lambda p: f"({p[0]})**{p[1]}")
    return binary | choice | call | unary | power | inner.map("({})".format) | inner.map("-{}".format)


arithmetic = st.recursive(numbers, grow, max_leaves=8)
truths = st.recursive(
    st.tuples(arithmetic, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), arithmetic).map(" ".join)
    | st.sampled_from(["yes", "no", "true", "False"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join)
        | inner.map("not {}".format)
        | inner.map("({})".format)
    ),
    max_leaves=5,
)


@given(arithmetic | truths)
def test_an_expression_means_what_it_means_in_python(text: str) -> None:
    assume(len(text) <= MAX_LENGTH)
    try:
        expected = python(text.replace("true", "True"))
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="division by zero"):
            value(text)
        return
    except OverflowError:
        assume(False)
    try:
        found = value(text)
    except ExpressionError as error:
        assert "too large" in error.message or "nested deeper" in error.message, error.message
        return
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("7 // -2", -4),
        ("7 % 3", 1),
        ("8 / 2", 4),
        ("7 / 2", 3.5),
        ("10 - 2 - 3", 5),
        ("100 // 7 // 2", 7),
        ("1 if false else 2 if false else 3", 3),
        ("not 1 == 2", True),
        ("not true or true", True),
        ("true or false and false", True),
        ("min(3, 1, 2)", 1),
        ("ks[1]", 5),
        ("ks[a - 7]", 3),
        ("2*a+1", 15),
        ("- - 3", 3),
    ],
)
def test_precedence_and_associativity(text: str, result: object) -> None:
    found = value(text)
    assert found == result
    assert type(found) is type(result)


def test_a_quotient_of_channels_is_a_whole_number() -> None:
    """`width / 2` counts channels where it is exact; elsewhere it is a float, which no channel count takes."""
    assert type(value("width / 2", width=64)) is int
    assert type(value("width / 2", width=65)) is float


def test_only_the_branch_that_is_taken_counts() -> None:
    assert value("1 if true else 1/0") == 1
    assert value("false and 1/0 == 1") is False
    assert value("true or 1/0 == 1") is True


def test_what_depends_on_an_unknown_shape_is_not_known() -> None:
    assert value("2*x + 1", x=None) is None
    assert value("x == 3", x=None) is None
    assert value("1 if x == 3 else 2", x=None) is None
    assert value("x == 3 or true", x=None) is None


@pytest.mark.parametrize(
    ("text", "message", "start", "length"),
    [
        ("a + d", "nothing is called `d` here", 4, 1),
        ("a + ", "a value is expected, the end found", 3, 1),
        ("(a", "`(` is not closed by `)`", 0, 1),
        ("ks[0", "`[` is not closed by `]`", 2, 1),
        ("a b", "`b` is not expected here", 2, 1),
        ("a = 3", "`=` has no meaning in an expression", 2, 1),
        ("a if yes", "`a if c` needs `else b`", 8, 1),
        ("a // (7 - a)", "division by zero", 0, 12),
        ("10 ** 30", "the result is too large", 0, 8),
        ("9**9**9", "the result is too large", 0, 7),
        ("ks[3]", "index 3 is outside a list of 3", 0, 5),
        ("a[0]", "only a list can be indexed", 0, 4),
        ("len(a)", "only a list has a length", 0, 6),
        ("1 + yes", "arithmetic needs numbers, found a truth value", 4, 3),
        ("1 + ks", "arithmetic needs numbers, found `(3, 5, 7)`", 4, 2),
        ("sqrt(4)", "there is no function `sqrt`", 0, 4),
        ("a.real", "`.real` is asked of something that is not a tensor", 0, 6),
        ("(-8) ** 0.5", "this can't be calculated: a root of a negative number", 1, 10),
        ("lambda: 1", "`:` has no meaning in an expression", 6, 1),
        ("'x", "`'` has no meaning in an expression", 0, 1),
        ("'x' + 1", "arithmetic needs numbers, found `x`", 0, 3),
        ("1a", "`1` has no meaning in an expression", 0, 1),
        ("", "a value is expected, the end found", 0, 1),
    ],
)
def test_what_is_refused_and_where(text: str, message: str, start: int, length: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert caught.value.message == message
    assert (caught.value.start, caught.value.length) == (start, length)


@pytest.mark.parametrize(
    "text",
    ["(" * 21 + "1" + ")" * 21, "ks[" * 21 + "0" + "]" * 21, "-".join("1" * 300), "min(" * 30 + "1" + ")" * 30],
)
def test_length_and_depth_are_bounded(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"nested deeper|too long"):
        value(text)


def test_the_longest_chain_is_worked_out() -> None:
    """A sum is as deep a tree as it has terms; the longest that is allowed must not exhaust the stack."""
    text = "+".join(["1"] * ((MAX_LENGTH + 1) // 2))
    assert value(text) == (MAX_LENGTH + 1) // 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a * (4 + 2)", "7 × (4 + 2)"),
        ("(2 + 2*len(ks)) * a", "(2 + 2 × 3) × 7"),
        ("a - (b - 1)", "7 − ((-3) − 1)"),
        ("(a*2) // ks[0] + c", "7 × 2 // 3 + 2.5"),
        ("(a**2)**2", "(7 ** 2) ** 2"),
        ("2 * (a if yes else b)", "2 × 7"),
        ("-a + 1", "(-7) + 1"),
        ("a", ""),
        ("max(a, 2)", ""),
        ("a > 1", ""),
    ],
)
def test_arithmetic_is_spelled_out_with_its_numbers(text: str, shown: str) -> None:
    assert spelled_out(text, SCOPE) == shown
