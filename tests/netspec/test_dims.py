"""Symbolic dimensions against integer arithmetic: whatever is worked out with names comes out the same with numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.dims import MAX_WEIGHT, Dim, Sym, TooComplex, evaluate, product, symbol, symbols

N, H, W = symbol("N"), symbol("H"), symbol("W")
sizes = st.fixed_dictionaries({name: st.integers(-50, 50) for name in ("N", "H", "W")})

# A formula is a function of three numbers or names, so that the same one is worked out with both.
Formula = Callable[[Dim, Dim, Dim], Dim]


def leaves() -> st.SearchStrategy[Formula]:
    names: list[Formula] = [lambda n, h, w: n, lambda n, h, w: h, lambda n, h, w: w]
    constants = st.integers(-9, 9).map(lambda k: lambda n, h, w: k)
    return st.sampled_from(names) | constants


def grow(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    pairs = st.tuples(inner, inner)
    divisors = st.tuples(inner, st.integers(1, 8))
    return (
        pairs.map(lambda p: lambda *x: p[0](*x) + p[1](*x))
        | pairs.map(lambda p: lambda *x: p[0](*x) - p[1](*x))
        | pairs.map(lambda p: lambda *x: p[0](*x) * p[1](*x))
        | inner.map(lambda f: lambda *x: -f(*x))
        | divisors.map(lambda p: lambda *x: p[0](*x) // p[1])
    )


formulas = st.recursive(leaves(), grow, max_leaves=12)
# Sizes as strided windows make them of a map: a number more or less, floored.
windows = st.recursive(
    st.sampled_from([lambda n, h, w: h, lambda n, h, w: w]),
    lambda inner: st.tuples(inner, st.integers(-9, 9), st.integers(1, 6)).map(
        lambda p: lambda *x: (p[0](*x) + p[1]) // p[2]
    ),
    max_leaves=4,
)


@given(formulas, sizes)
def test_a_formula_at_sizes_is_integer_arithmetic(formula: Formula, at: dict[str, int]) -> None:
    with_names = formula(N, H, W)
    assert evaluate(with_names, at) == formula(at["N"], at["H"], at["W"])
    assert symbols(with_names) <= {"N", "H", "W"}


@given(formulas, sizes)
def test_names_may_be_filled_in_one_after_the_other(formula: Formula, at: dict[str, int]) -> None:
    dim = formula(N, H, W)
    for name, size in at.items():
        dim = evaluate(dim, {name: size})
        assert name not in symbols(dim)
    assert dim == formula(at["N"], at["H"], at["W"])


@given(formulas, formulas, formulas)
def test_equal_formulas_are_one_object_in_effect(a: Formula, b: Formula, c: Formula) -> None:
    x, y, z = (formula(N, H, W) for formula in (a, b, c))
    for left, right in [
        (x + y, y + x),
        (x * y, y * x),
        ((x + y) + z, x + (y + z)),
        (x * (y + z), x * y + x * z),
        (x - x, 0),
        (x + 0, x),
        (x * 1, x),
        (x * 0, 0),
        (-1 * -x, x),
    ]:
        assert left == right
        assert hash(left) == hash(right)
        assert str(left) == str(right)


@given(windows, st.integers(1, 8), st.integers(1, 8), st.integers(-20, 20))
def test_floors_are_canonical(formula: Formula, a: int, b: int, k: int) -> None:
    x = formula(N, H, W)
    assert (x // a) // b == x // (a * b)
    assert (x + k * a) // a == x // a + k
    assert (x * a) // (a * b) == x // b
    assert (a * x) // a == x


def test_two_strided_convolutions_are_one_of_twice_the_stride() -> None:
    once = (H + 2 - 3) // 2 + 1
    assert (once + 2 - 3) // 2 + 1 == (H - 1) // 4 + 1


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (H, "H"),
        (2 * H, "2*H"),
        (H - 4, "H - 4"),
        (1 - H, "-H + 1"),
        (H * W * 8, "8*H*W"),
        ((H + 1) * (W + 1), "H*W + H + W + 1"),
        (H // 2, "floor((H)/2)"),
        ((H - 1) // 2 + 1, "floor((H + 1)/2)"),
        ((H - 5) // 2 + 1, "floor((H + 1)/2) - 2"),
        ((H + 1) // 2, "floor((H + 1)/2)"),
        (H // 2 * 2, "2*floor((H)/2)"),
    ],
)
def test_how_a_dimension_is_written(dim: Dim, text: str) -> None:
    assert str(dim) == text


def test_a_dimension_without_names_is_a_number() -> None:
    assert H - H == 0
    assert isinstance(H - H, int)
    assert isinstance(evaluate((H + 1) // 2, {"H": 3}), int)
    assert H != 1
    assert product([]) == 1
    assert product([2, H, 3]) == 6 * H


def test_only_a_positive_number_divides() -> None:
    with pytest.raises(ValueError, match="positive"):
        H // 0
    with pytest.raises(ValueError, match="positive"):
        H // -2


def test_a_formula_that_doubles_is_refused_while_it_is_short() -> None:
    size: Dim = H
    with pytest.raises(TooComplex):
        for _ in range(100):
            size = size // 2 + size // 3
    assert isinstance(size, Sym)
    assert size.weight <= 4 * MAX_WEIGHT
