"""Symbolic dimensions: exact integer arithmetic over names such as N, H and W.

A dimension is an `int` or a `Sym`. A `Sym` is a polynomial with integer coefficients whose atoms are symbols and
floored quotients, kept in a canonical form, so that two ways of computing one size compare equal:
`⌊(⌊(H − 1)/2⌋ + 1 − 1)/2⌋ + 1` and `⌊(H − 1)/4⌋ + 1` are the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Union

Dim = Union[int, "Sym"]
Atom = Union[str, "Quotient"]
Monomial = tuple[Atom, ...]
MAX_WEIGHT = 200  # names within one floor: far more than any network has, and few enough to be quick


class TooComplex(ArithmeticError):
    """A dimension's formula is over the bound: each of its floors holds several others, and so on."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """`⌊numerator / divisor⌋` with a symbolic numerator and a divisor of at least 2."""

    numerator: Sym
    divisor: int

    def __post_init__(self) -> None:
        if self.numerator.weight > MAX_WEIGHT:
            raise TooComplex

    def __str__(self) -> str:
        return f"floor(({self.numerator})/{self.divisor})"


def _order(monomial: Monomial) -> tuple[int, list[str]]:
    return (-len(monomial), [str(atom) for atom in monomial])


class Sym:
    """A dimension that is not known yet. Made by `symbol()` and arithmetic; supports + − × and // by a positive int."""

    __slots__ = ("_hash", "terms", "weight")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self.weight: int = 0
        for atoms, _ in terms:
            for atom in atoms:
                self.weight += atom.numerator.weight if isinstance(atom, Quotient) else 1

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and self.terms == other.terms

    def __add__(self, other: Dim) -> Dim:
        return _from_terms([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _from_terms((monomial, -c) for monomial, c in self.terms)

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        return _from_terms(
            (tuple(sorted(m1 + m2, key=str)) if m1 and m2 else m1 + m2, c1 * c2)
            for m1, c1 in self.terms
            for m2, c2 in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int) -> Dim:
        return _floor_divide(self, divisor)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            factors = [str(atom) for atom in monomial]
            size = abs(coefficient)
            if size != 1 or not factors:
                factors.insert(0, str(size))
            sign = "-" if coefficient < 0 else "+"
            product = "*".join(factors)
            text += (sign if sign == "-" else "") + product if not text else f" {sign} {product}"
        return text

    __repr__ = __str__


def symbol(name: str) -> Sym:
    """The free dimension called `name`."""
    return Sym((((name,), 1),))


def _terms(dim: Dim) -> Iterable[tuple[Monomial, int]]:
    if isinstance(dim, Sym):
        return dim.terms
    return (((), dim),) if dim else ()


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(monomial, c) for monomial, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    if len(kept) == 2 and () in (kept[0][0], kept[1][0]):  # a size and a number, as nearly all are
        if kept[0][0] == ():
            kept.reverse()
    elif len(kept) > 1:
        kept.sort(key=lambda term: _order(term[0]))
    return Sym(tuple(kept))


@lru_cache(maxsize=4096)
def _floor_divide(value: Sym, divisor: int) -> Dim:
    """⌊value/divisor⌋: whole multiples leave the floor, nested floors become one, common factors cancel."""
    if divisor == 1:
        return value
    if divisor < 1:
        raise ValueError("a symbolic dimension is divided by a positive number only")
    whole: Dim = 0
    rest: list[tuple[Monomial, int]] = []
    for monomial, coefficient in value.terms:
        quotient, remainder = divmod(coefficient, divisor)
        whole = whole + _from_terms([(monomial, quotient)])
        if remainder:
            rest.append((monomial, remainder))
    constant = sum(c for monomial, c in rest if monomial == ())
    varying = [(monomial, c) for monomial, c in rest if monomial != ()]
    if not varying:
        return whole
    if len(varying) == 1 and varying[0][1] == 1 and len(varying[0][0]) == 1:
        inner = varying[0][0][0]
        if isinstance(inner, Quotient):  # floor((floor(x/a) + c)/b) = floor((x + a*c)/(a*b))
            numerator = inner.numerator + inner.divisor * constant
            return whole + (numerator // (inner.divisor * divisor))
    common = gcd(divisor, *(c for _, c in varying))
    if common > 1:  # floor((g*x + c)/(g*d)) = floor((x + floor(c/g))/d)
        reduced = _from_terms([*((m, c // common) for m, c in varying), ((), constant // common)])
        return whole + (reduced // (divisor // common))
    numerator = _from_terms(rest)
    assert isinstance(numerator, Sym)
    return whole + Sym((((Quotient(numerator, divisor),), 1),))


def symbols(dim: Dim) -> frozenset[str]:
    """The names that a dimension depends on."""
    if isinstance(dim, int):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            found |= symbols(atom.numerator) if isinstance(atom, Quotient) else {atom}
    return frozenset(found)


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """The dimension with the names in `sizes` replaced; an int where nothing free is left."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        product: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, Quotient):
                product = product * (evaluate(atom.numerator, sizes) // atom.divisor)
            else:
                product = product * (sizes[atom] if atom in sizes else symbol(atom))
        total = total + product
    return total


def per(dim: Dim, name: str) -> Dim:
    """How much of a dimension there is for each of `name`, 8·P of 8·N·P; all of it where it is no multiple."""
    if isinstance(dim, int) or any(name not in monomial for monomial, _ in dim.terms):
        return dim
    return _from_terms((_without(monomial, name), coefficient) for monomial, coefficient in dim.terms)


def _without(monomial: Monomial, name: str) -> Monomial:
    place = monomial.index(name)
    return (*monomial[:place], *monomial[place + 1 :])


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result
