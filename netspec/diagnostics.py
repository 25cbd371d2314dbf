"""Diagnostics as values: what is wrong, where, why, and the mend. Rendering is apart (`netspec.render`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from netspec.source import Span

Severity = Literal["error", "warning"]

# More than this many of one run help nobody; the rest are counted.
MAX_DIAGNOSTICS = 100


@dataclass(frozen=True, slots=True)
class Label:
    """A secondary place with a few words on its part in the matter."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of the way through the blocks: the layer that was being expanded, and where it is written."""

    path: str
    what: str
    span: Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about a spec.

    Attributes:
        code: a stable name for the kind of finding, e.g. `shape-mismatch`.
        message: one terse sentence.
        span: the primary place; `label` says what is there.
        labels: secondary places.
        expansion: the way through the blocks that led here, outermost first.
        notes: facts that explain the finding.
        help: the mend.
    """

    code: str
    message: str
    span: Span
    severity: Severity = "error"
    label: str = ""
    labels: tuple[Label, ...] = ()
    expansion: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
    help: str = ""

    def located(self, expansion: tuple[Frame, ...]) -> Diagnostic:
        """The same finding with the way through the blocks that led to it."""
        return replace(self, expansion=expansion)


class SpecError(Exception):
    """What is wrong with a spec, for those who call netspec as a library.

    Attributes:
        diagnostics: every finding, errors and warnings, in the order of the source.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        first = next((d for d in self.diagnostics if d.severity == "error"), self.diagnostics[0])
        super().__init__(f"{first.span}: {first.message}")

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Diagnostic, ...]]]:
        """Pickled by its diagnostics, so that it gets out of a worker process."""
        return type(self), (self.diagnostics,)


class Findings:
    """Collects diagnostics; one that was already made at the same place with the same words is kept once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], Diagnostic] = {}
        self.omitted = 0

    def add(self, diagnostic: Diagnostic) -> None:
        span = diagnostic.span
        key = (diagnostic.code, diagnostic.message, span.source.name, span.line, span.column)
        if key in self._seen:
            return
        if len(self._seen) >= MAX_DIAGNOSTICS:
            self.omitted += 1
            return
        self._seen[key] = diagnostic

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(sorted(self._seen.values(), key=lambda d: (d.span.source.name, d.span.line, d.span.column)))

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(d.severity == "error" for d in self._seen.values())


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was most likely meant to be, or None."""
    import difflib  # costs as much as checking a small spec, and only mistakes need it

    found = difflib.get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Help for a mistyped name: the nearest one, or the list where it is short."""
    names = sorted(candidates)
    best = nearest(word, names)
    if best is not None:
        return f"did you mean `{best}`?"
    if 0 < len(names) <= 12:
        return "there is " + ", ".join(f"`{name}`" for name in names)
    return ""
