"""Diagnostics as text with carets, as JSON, and as annotations for GitHub."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from netspec.diagnostics import Diagnostic
from netspec.source import Source, Span

MAX_WIDTH = 160
MAX_MESSAGE = 600
Paint = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    """Text without colour, for files and pipes."""
    return text


_COLOURS = {"error": "1;31", "warning": "1;33", "label": "1;34", "help": "1;36", "bold": "1"}


def ansi(text: str, style: str) -> str:
    """Text in the colour of a style: error, warning, label, help or bold."""
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"


def as_text(diagnostic: Diagnostic, paint: Paint = plain) -> str:
    """A diagnostic for people: the message, the lines it is about with what each has to do with it, and the mend."""
    severity = diagnostic.severity
    message = diagnostic.message
    if len(message) > MAX_MESSAGE:  # it quotes a word that nobody meant to be so long
        message = f"{message[: MAX_MESSAGE // 2]} … {message[-MAX_MESSAGE // 2 :]}"
    head = paint(f"{severity}[{diagnostic.code}]", severity) + paint(f": {message}", "bold")
    marks = [(diagnostic.span, diagnostic.label, True)] + [
        (label.span, label.text, False) for label in diagnostic.labels
    ]
    widest = max(len(str(span.line)) for span, _, _ in marks)
    gutter = " " * widest
    lines = [head]
    for source in dict.fromkeys(span.source for span, _, _ in marks):
        own = [mark for mark in marks if mark[0].source is source]
        place = own[0][0]
        arrow = "-->" if place.source is diagnostic.span.source else ":::"
        lines.append(f"{gutter}{paint(arrow, 'label')} {place}")
        if source.text.strip():
            lines += _excerpt(source, own, widest, severity, paint)
    notes = [f"in `{frame.path}`, a `{frame.what}` of {frame.span}" for frame in reversed(diagnostic.expansion)]
    for note in (*notes, *diagnostic.notes):
        lines.append(f"{gutter} = {note}")
    if diagnostic.help:
        lines.append(f"{gutter} = {paint('help', 'help')}: {diagnostic.help}")
    return "\n".join(lines)


def _excerpt(
    source: Source, marks: list[tuple[Span, str, bool]], widest: int, severity: str, paint: Paint
) -> list[str]:
    """The marked lines in order, each with its carets below; `...` where lines are left out."""
    bar = paint("|", "label")
    lines = [f"{' ' * widest} {bar}"]
    previous = 0
    for number in sorted({span.line for span, _, _ in marks}):
        if previous and number > previous + 1:
            lines.append(paint("...", "label"))
        previous = number
        here = sorted((mark for mark in marks if mark[0].line == number), key=lambda mark: mark[0].column)
        text, shift = _crop(source.line(number), here[0][0].column)
        lines.append(f"{paint(str(number).rjust(widest), 'label')} {bar} {text}".rstrip())
        for span, words, primary in here:
            start = max(0, span.column - 1 - shift)
            end = span.end_column - 1 - shift if span.end_line == number else len(text.rstrip())
            width = max(1, min(end, max(len(text), start + 1)) - start)
            mark = paint(
                ("^" if primary else "-") * width + (f" {words}" if words else ""), severity if primary else "label"
            )
            lines.append(f"{' ' * widest} {bar} {' ' * start}{mark}")
    return lines


def _crop(line: str, column: int) -> tuple[str, int]:
    """A part of a long line around a column, and how many characters were cut off before it."""
    line = line.replace("\t", " ")
    line = "".join(c if c.isprintable() else "�" for c in line)
    if len(line) <= MAX_WIDTH:
        return line, 0
    shift = max(0, column - MAX_WIDTH // 2)
    return line[shift : shift + MAX_WIDTH], shift


def _place(span: Span) -> dict[str, Any]:
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def as_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic for programs. Lines and columns count from 1; the end is exclusive."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "label": diagnostic.label,
        "labels": [{"text": label.text, **_place(label.span)} for label in diagnostic.labels],
        "expansion": [{"path": f.path, "block": f.what, **_place(f.span)} for f in diagnostic.expansion],
        "notes": list(diagnostic.notes),
        "help": diagnostic.help,
    }


def as_github(diagnostic: Diagnostic) -> str:
    """A workflow command that GitHub shows on the line that it is about."""
    span = diagnostic.span
    body = diagnostic.message
    for label in diagnostic.labels:
        body += f"\n{label.span}: {label.text}"
    if diagnostic.help:
        body += f"\nhelp: {diagnostic.help}"
    properties = {"file": span.source.name, "line": span.line, "col": span.column, "title": diagnostic.code}
    if span.end_line == span.line:
        properties["endColumn"] = span.end_column
    shown = ",".join(f"{key}={_escape(str(value), ',:')}" for key, value in properties.items())
    return f"::{diagnostic.severity} {shown}::{_escape(body)}"


def _escape(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def tally(diagnostics: Iterable[Diagnostic], omitted: int = 0) -> str:
    """How many errors and warnings there are, in words."""
    found = list(diagnostics)
    parts = []
    for severity in ("error", "warning"):
        count = sum(diagnostic.severity == severity for diagnostic in found)
        if count:
            parts.append(f"{count} {severity}{'s' if count > 1 else ''}")
    return ", ".join(parts) + (f" ({omitted} more not shown)" if omitted else "")
