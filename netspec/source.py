"""Source text and the spans that diagnostics point at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A text with a name: a spec file, or a value given on the command line."""

    name: str
    text: str = field(repr=False)  # a span of it is shown often, the whole of it would be in the way
    _lines: list[str] = field(default_factory=list, repr=False)

    def line(self, number: int) -> str:
        """The text of a line (1-based) without its line break; empty past the end."""
        if not self._lines:
            self._lines.extend(self.text.splitlines() or [""])
        return self._lines[number - 1] if 1 <= number <= len(self._lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a source. Lines and columns count from 1, columns in characters; the end is exclusive."""

    source: Source
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        """What stands there; empty where it goes over several lines."""
        if self.line != self.end_line:
            return ""
        return self.source.line(self.line)[self.column - 1 : self.end_column - 1]

    def within(self, start: int, length: int) -> Span:
        """The part of a one-line span that begins `start` characters in."""
        if self.line != self.end_line:
            return self
        column = min(self.column + start, max(self.column, self.end_column - 1))
        return Span(self.source, self.line, column, self.line, min(column + max(length, 1), self.end_column))


def whole_file(name: str, text: str = "") -> Span:
    """The span for what is wrong with a file as a whole: its first character."""
    return Span(Source(name, text), 1, 1, 1, 1)
