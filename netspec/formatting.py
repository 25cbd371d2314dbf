"""The one way in which specs are laid out: `netspec fmt`.

Indentation, spaces, blank lines and the columns of comments are set; lines are broken where people break them, and
collections stay in the style, `{…}` or one entry a line, in which they are written, as long as they fit. Comments are
kept word for word. What a spec says is compared before and after, so no mistake here can change it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import yaml

from netspec.source import Source
from netspec.yaml_reader import Node, Scalar, Sequence, parse

WIDTH = 120
STEP = 2
BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_CLOSING = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_PREFIXES = (yaml.ValueToken, yaml.BlockEntryToken)
_MARKERS = (yaml.DirectiveToken, yaml.DocumentStartToken, yaml.DocumentEndToken)


class CannotFormat(Exception):
    """The text can't be laid out without changing what it says."""


def format_spec(source: Source) -> str:
    """The text of a spec, laid out.

    Raises:
        SpecError: it is not YAML that netspec reads.
        CannotFormat: it would come to mean something else; the text is to be left as it is.
    """
    before = _data(parse(source))
    lines = _Layout(source.text).lines()
    text = _written(lines)
    while any(line.breakable for line in lines):
        lines = _Layout(_written([part for line in lines for part in line.broken()])).lines()
        text = _written(lines)
    if _data(parse(Source(source.name, text))) != before or _comments(text) != _comments(source.text):
        raise CannotFormat
    return text


def _data(node: Node) -> Any:
    """What a tree says, with every scalar's kind."""
    if isinstance(node, Scalar):
        return node.text, node.quoted
    if isinstance(node, Sequence):
        return [_data(item) for item in node.items]
    return [(key, entry.key.quoted, _data(entry.value)) for key, entry in node.entries.items()]


def _comments(text: str) -> list[str]:
    return [line.comment for line in _Layout(text).lines() if line.comment]


@dataclass
class _Flow:
    """A collection in braces or brackets that begins and ends on one line.

    Attributes:
        start, end: the places of its brackets in the line's code.
        column: where its entries stand if each has a line of its own.
        commas: the places of the commas between its entries.
        values: which of the entries have a value.
        simple: whether nothing stands in the way of giving every entry a line of its own.
        entry: whether it is an entry of a list, `- {…}`.
    """

    start: int
    column: int
    mapping: bool
    entry: bool
    end: int = 0
    commas: list[int] = field(default_factory=list)
    values: set[int] = field(default_factory=set)
    simple: bool = True


@dataclass
class _Line:
    """A line to be written.

    Attributes:
        column: that of its comment, as it was.
        moved: how far the line is moved.
        exact: whether its end is kept, and the line even if it is blank.
    """

    indent: int
    code: str = ""
    comment: str = ""
    column: int = 0
    moved: int = 0
    exact: bool = False
    flow: _Flow | None = None

    @property
    def end(self) -> int:
        return self.indent + len(self.code)

    @property
    def breakable(self) -> bool:
        flow = self.flow
        return flow is not None and self.end > WIDTH and flow.simple and flow.end == len(self.code) - 1

    def broken(self) -> list[_Line]:
        """The line with one entry of its collection a line, if it is too long; else itself."""
        flow = self.flow
        if flow is None or not self.breakable:
            return [self]
        places = [flow.start, *flow.commas, flow.end]
        entries = [self.code[a + 1 : b].strip() for a, b in pairwise(places)]
        entries = [entry for entry in entries if entry]
        if flow.mapping:
            entries = [entry if number in flow.values else f"{entry}:" for number, entry in enumerate(entries)]
        else:
            entries = [f"- {entry}" for entry in entries]
        head = self.code[: flow.start].rstrip()
        if not flow.entry:
            first = _Line(self.indent, head, self.comment)
            return [first, *(_Line(flow.column, entry) for entry in entries)]
        above = [_Line(self.indent, "", self.comment)] if self.comment else []
        return [*above, _Line(self.indent, f"{head} {entries[0]}"), *(_Line(flow.column, e) for e in entries[1:])]


@dataclass
class _Collection:
    """A block collection that is open: the column at which its entries stand, and at which they are to stand."""

    old: int
    new: int
    list: bool = False
    implied: bool = False  # a list at the column of the key that holds it


class _Layout:
    """Lays a text out, token by token; what stands between tokens is white space and comments."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.done: list[_Line] = []
        self.open: list[_Collection] = []
        self.before: list[_Collection] = []  # what was open at the last token
        self.flows: list[_Flow] = []
        self.line: _Line | None = None
        self.last: Any = None
        self.entry = False  # whether the next token begins an entry of a mapping
        self.position = 0

    def lines(self) -> list[_Line]:
        """The lines, without blank ones at the beginning and the end."""
        for token in yaml.scan(self.text, Loader=_Loader):
            self.structure(token)
            if token.start_mark.index < token.end_mark.index:
                self.take(token)
        self.gap(self.text[self.position :], None)
        self.finish()
        while self.done and not (self.done[-1].code or self.done[-1].comment or self.done[-1].exact):
            self.done.pop()
        return self.done

    # -- block collections

    def structure(self, token: Any) -> None:
        """Keeps account of the block collections that open and close."""
        column = token.start_mark.column
        if isinstance(token, yaml.BlockMappingStartToken | yaml.BlockSequenceStartToken):
            self.push(column, isinstance(token, yaml.BlockSequenceStartToken))
        elif isinstance(token, yaml.BlockEndToken):
            self.close_implied()
            self.open.pop()
        elif isinstance(token, yaml.KeyToken) and not self.flows:
            self.close_implied()
            self.entry = True
        elif isinstance(token, yaml.BlockEntryToken) and not self.open[-1].list:
            self.push(column, True, implied=True)
        elif isinstance(token, yaml.KeyToken) and token.start_mark.index < token.end_mark.index:
            self.flows[0].simple = False

    def push(self, column: int, is_list: bool, implied: bool = False) -> None:
        new = self.open[-1].new + STEP if self.open else 0
        self.open.append(_Collection(column, new, is_list, implied))

    def close_implied(self) -> None:
        if self.open and self.open[-1].implied:
            self.open.pop()

    @property
    def inner(self) -> int:
        """The column of what belongs to the entry at hand and stands below it."""
        return (self.open[-1].new if self.open else -STEP) + STEP

    # -- tokens

    def take(self, token: Any) -> None:
        """Writes a token, after what stands before it."""
        text = self.text[token.start_mark.index : token.end_mark.index]
        self.gap(self.text[self.position : token.start_mark.index], token)
        self.position = token.end_mark.index
        closing = isinstance(token, _CLOSING)
        if self.line is None:
            self.begin(token, closing)
        else:
            self.line.code += self.space(token)
        if isinstance(token, _OPENING):
            self.open_flow(token)
        self.write(token, text)
        if self.flows and len(self.flows) == 1:
            self.mark_flow(token)
        if closing:
            self.close_flow()
        self.last, self.entry = token, False
        self.before = list(self.open)

    def begin(self, token: Any, closing: bool) -> None:
        """Begins a line with a token."""
        if isinstance(token, _MARKERS):
            indent = 0
        elif self.flows:
            indent = self.inner + STEP * (len(self.flows) - 1 - closing)
        elif self.open and (self.entry or isinstance(token, yaml.BlockEntryToken | yaml.ValueToken)):
            indent = self.open[-1].new
        else:
            indent = self.inner
        self.line = _Line(indent, moved=indent - token.start_mark.column)

    def space(self, token: Any) -> str:
        """What stands between the last token and this one on a line."""
        last = self.last
        after_colon = isinstance(last, yaml.ValueToken)
        if isinstance(last, _OPENING):
            return ""
        if isinstance(token, (yaml.FlowEntryToken, *_CLOSING)):
            return " " if after_colon else ""
        if isinstance(token, yaml.ValueToken):
            return " " if isinstance(last, yaml.AliasToken | yaml.KeyToken) else ""
        return " "

    def write(self, token: Any, text: str) -> None:
        assert self.line is not None
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            self.block_text(token, text)
            return
        first, *rest = BREAK.split(text)
        self.line.code += _trimmed(first) if rest else first
        for number, part in enumerate(rest, 1):  # a text over several lines: their beginnings and ends say nothing
            self.finish(exact=True)
            column = self.inner + STEP * (len(self.flows) - 1) if self.flows else self.inner
            kept = part.lstrip(" \t")
            moved = column - (len(part) - len(kept))
            self.line = _Line(column, kept if number == len(rest) else _trimmed(kept), moved=moved, exact=True)

    def block_text(self, token: Any, text: str) -> None:
        """A text after `|` or `>`: its lines are moved together."""
        assert self.line is not None
        head, *rest = BREAK.split(text)
        marker, hash_, comment = head.partition("#")
        self.line.code += marker.rstrip()
        if hash_:
            self.comment(hash_ + comment, token.start_mark.column + len(marker))
        self.finish()
        written = [len(line) - len(line.lstrip(" ")) for line in rest if line.strip(" ")]
        digit = re.search(r"[1-9]", marker)
        old = (self.open[-1].old if self.open else 0) + int(digit[0]) if digit else min(written, default=0)
        new = (self.open[-1].new if self.open else 0) + int(digit[0]) if digit else max(self.inner, 1)
        lines = [line[old:] for line in rest]
        tail = len(lines) - 1 if "+" in marker else next((n for n in range(len(lines), 0, -1) if lines[n - 1]), 0)
        self.done += [_Line(new if line else 0, line, exact=True) for line in lines[:tail]]
        if "+" not in marker:
            self.blank(len(lines) - 1 > tail)

    # -- flow collections

    def open_flow(self, token: Any) -> None:
        assert self.line is not None
        entry = isinstance(self.last, yaml.BlockEntryToken)
        mapping = isinstance(token, yaml.FlowMappingStartToken)
        flow = _Flow(len(self.line.code), self.inner, mapping, entry, simple=isinstance(self.last, _PREFIXES))
        if not self.flows:
            self.line.flow = flow
        self.flows.append(flow)

    def mark_flow(self, token: Any) -> None:
        """Notes where the entries of the outermost collection are."""
        assert self.line is not None
        flow = self.flows[0]
        if isinstance(token, yaml.FlowEntryToken):
            flow.commas.append(len(self.line.code) - 1)
        elif isinstance(token, yaml.ValueToken):
            flow.values.add(len(flow.commas))

    def close_flow(self) -> None:
        assert self.line is not None
        flow = self.flows.pop()
        if not self.flows:
            flow.end = len(self.line.code) - 1
            flow.simple = flow.simple and self.line.flow is flow and flow.end > flow.start + 1

    # -- white space and comments

    def gap(self, text: str, token: Any) -> None:
        """What stands between two tokens: a comment at the end of the line, blank lines, lines of comments."""
        end, *below = BREAK.split(text)
        if "#" in end:
            spaces = len(end) - len(end.lstrip())
            self.comment(end.strip(), (self.last.end_mark.column if self.last else 0) + spaces)
        if not below:
            return
        self.finish()
        for part in below[:-1] if token else below:
            self.blank(not part.strip())
            if part.strip():
                self.done.append(_Line(self.comment_column(len(part) - len(part.lstrip())), comment=part.strip()))

    def comment(self, text: str, column: int) -> None:
        if self.line is None:
            self.done.append(_Line(self.comment_column(column), comment=text))
        else:
            self.line.comment, self.line.column = text, column

    def comment_column(self, column: int) -> int:
        """Where a comment on a line of its own belongs: with the entries at or before whose column it stood."""
        if self.flows:
            return self.inner + STEP * (len(self.flows) - 1)
        known = [*self.before, *self.open]
        best = max((c for c in known if c.old <= column), key=lambda c: c.old, default=None)
        if best is None:
            return 0
        same = [c for c in known if c.old == best.old]
        deeper = column > best.old and isinstance(self.last, yaml.ValueToken)
        return same[-1].new + (STEP if deeper else 0)

    def blank(self, wanted: bool) -> None:
        """A blank line, unless there is one already or nothing before it."""
        if wanted and self.done and (self.done[-1].code or self.done[-1].comment or self.done[-1].exact):
            self.done.append(_Line(0))

    def finish(self, exact: bool = False) -> None:
        if self.line is not None:
            self.line.exact = self.line.exact or exact
            self.done.append(self.line)
            self.line = None


def _trimmed(part: str) -> str:
    """A line of a text without the white space at its end, unless that is escaped."""
    trimmed = part.rstrip(" \t")
    return part if trimmed.endswith("\\") else trimmed


def _written(lines: list[_Line]) -> str:
    """The lines as text. Comments that stood in one column of a paragraph stand in one column again."""
    columns: dict[int, int] = {}
    for _, paragraph in groupby(lines, key=lambda line: bool(line.code or line.comment)):
        groups: dict[int, list[_Line]] = {}
        for line in paragraph:
            if line.code and line.comment:
                groups.setdefault(line.column, []).append(line)
        for group in groups.values():
            place = max(max(line.column + line.moved, line.end + 2) for line in group)
            columns |= {id(line): place for line in group}
    written = []
    for line in lines:
        code = " " * line.indent + line.code if line.code else ""
        if line.comment:
            code = code.ljust(columns[id(line)]) + line.comment if line.code else " " * line.indent + line.comment
        written.append(code if line.exact else code.rstrip())
    return "\n".join(written) + "\n"
