"""YAML text to a tree of nodes with spans.

Only data comes in: tags are refused, and size, depth and alias expansion are bounded. Scalars are read by the rules of
YAML 1.2 (so `on` is a word and `1e-3` a number), and what older rules would read differently is refused with the mend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netspec.diagnostics import Diagnostic, Label, SpecError
from netspec.source import Source, Span, whole_file

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 4_000_000
MAX_ALIASED_NODES = 10_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True, eq=False)
class Scalar:
    """A leaf. `value` is what YAML 1.2 makes of the text; `quoted` text is always a string."""

    value: int | float | bool | str | None
    text: str
    quoted: bool
    span: Span


@dataclass(slots=True, eq=False)
class Sequence:
    items: list[Node]
    span: Span


@dataclass(slots=True, eq=False)
class Entry:
    """A key of a mapping with its value."""

    key: Scalar
    value: Node


@dataclass(slots=True, eq=False)
class Mapping:
    entries: dict[str, Entry]
    span: Span

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.value if entry else None


Node = Scalar | Sequence | Mapping


def read_file(path: Path, name: str | None = None) -> Source:
    """The text of a spec file.

    Raises:
        SpecError: it can't be read, is too large, or is not text.
    """
    label = name or str(path)

    def refuse(code: str, message: str, help: str = "") -> SpecError:
        return SpecError([Diagnostic(code, message, whole_file(label), help=help)])

    try:
        if path.is_dir():
            raise refuse("unreadable-file", f"`{label}` is a folder, not a spec")
        if path.is_fifo() and path.absolute().parts[1:2] not in (("dev",), ("proc",)):  # where a shell's pipes lie
            raise refuse("unreadable-file", f"`{label}` is a named pipe, not a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise refuse("unreadable-file", f"`{label}` can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file can have
        raise refuse("unreadable-file", f"`{label}` can't be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise refuse("file-too-large", f"`{label}` is larger than {MAX_BYTES >> 20} MiB, the most that a spec may be")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(
            "not-text",
            f"`{label}` is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x})",
            "a spec is a YAML file; is this the file that was meant?",
        ) from None
    return Source(label, text)


def parse(source: Source, text: str | None = None) -> Node:
    """The tree of a YAML document.

    Args:
        text: what is read in place of the source's text, where only a part of it is YAML: at the same positions.

    Raises:
        SpecError: it is not one well-formed YAML document within the bounds.
    """
    text = source.text if text is None else text
    try:
        return _Composer(source, text).document()
    except UnicodeEncodeError as error:  # half a surrogate pair: bytes of a command line that are not UTF-8
        span = _span_at(source, error.start)
        raise SpecError([Diagnostic("not-text", "the text holds bytes that are not UTF-8", span)]) from None
    except yaml.reader.ReaderError as error:
        # libyaml tells the place in bytes, or not at all: the character itself is looked for
        character = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        message = f"the file holds the control character 0x{character:02x}, which YAML does not allow"
        span = _span_at(source, max(text.find(chr(character)), 0))
        raise SpecError([Diagnostic("not-text", message, span)]) from None
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax_error(source, error)]) from None


def _span_at(source: Source, position: int) -> Span:
    """The span of one character."""
    lines = (source.text[:position] + "x").splitlines()
    return Span(source, len(lines), len(lines[-1]), len(lines), len(lines[-1]) + 1)


# What libyaml says of common slips, and what a person should hear.
_SYNTAX_HELP = (
    ("cannot start any token", "\t", "indent with spaces: YAML does not allow tabs"),
    ("found a tab character", "", "indent with spaces: YAML does not allow tabs"),
    ("unexpected end of stream", "", "a quote is opened here and never closed"),
    ("did not find expected ',' or '}'", "", "a `{` is opened and not closed, or a comma is missing"),
    ("did not find expected ',' or ']'", "", "a `[` is opened and not closed, or a comma is missing"),
    ("mapping values are not allowed", "", "a second `:` stands on this line, or the line is indented too far"),
    ("did not find expected key", "", "keys of one mapping start in the same column"),
    ("could not find expected ':'", "", "a key is followed by `:` and a space"),
    ("did not find expected <document start>", "", "text stands after the end of the document"),
    ("cannot start any token", "@", "quote text that starts with `@`"),
    ("cannot start any token", "`", "quote text that starts with a backtick"),
    ("cannot start any token", "%", "quote text that starts with `%`"),
)


def _syntax_error(source: Source, error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or error.context or "not YAML"
    character = source.line(line)[column - 1 : column]
    help = next((h for words, c, h in _SYNTAX_HELP if words in problem and (not c or c == character)), "")
    labels: tuple[Label, ...] = ()
    context = error.context_mark
    span = Span(source, line, column, line, column + 1)
    if context and error.context and (context.line, context.column) != (line - 1, column - 1):
        start = Span(source, context.line + 1, context.column + 1, context.line + 1, context.column + 2)
        if "scanning" in error.context or not source.line(line).strip():
            span = start  # the reader gave up far behind the slip, often at the end of the file
        else:
            labels = (Label(start, error.context),)
    elif line > 1 and column == 1 and not source.line(line):
        last = len(source.line(line - 1))
        span = Span(source, line - 1, max(last, 1), line - 1, max(last, 1) + 1)
    return Diagnostic("yaml-syntax", problem, span, labels=labels, help=help)


_INT = re.compile(r"[-+]?(?:0|[1-9](?:_?[0-9])*)\Z")
_BASED_INT = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|o[0-7]+|b[01]+)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9](?:_?[0-9])*)?\.[0-9](?:_?[0-9])*|[0-9](?:_?[0-9])*\.?)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_WORDS: dict[str, bool | None] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
}  # fmt: skip
MAX_DIGITS = 40


def plain_value(text: str, span: Span) -> int | float | bool | str | None:
    """What a plain (unquoted) scalar means.

    Raises:
        SpecError: a number that readers of YAML disagree about (`012`), or one too long to be meant.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.":
        return text
    if len(text) > MAX_DIGITS and (_INT.match(text) or _BASED_INT.match(text)):
        message = f"a number of {len(text)} digits is too large"
        raise SpecError([Diagnostic("number-too-large", message, span)])
    if _INT.match(text):
        return int(text.replace("_", ""))
    if _LEADING_ZERO.match(text):
        decimal = text.replace("_", "").lstrip("+-0") or "0"
        octal = f", or `0o{decimal}` for octal" if not set(decimal) & {"8", "9"} else ""
        raise SpecError(
            [
                Diagnostic(
                    "ambiguous-number",
                    f"`{text}` is octal to some readers of YAML and decimal to others",
                    span,
                    help=f"write `{decimal}`{octal}",
                )
            ]
        )
    if _BASED_INT.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text.replace("_", "").replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan"))
    return text


@dataclass(slots=True, eq=False)
class _Open:
    """A collection whose end has not been read yet."""

    node: Sequence | Mapping
    anchor: str | None
    key: Scalar | None = None
    size: int = 1
    height: int = 1


class _Composer:
    """Builds the tree from the parser's events with a stack of its own, so that depth is ours to bound."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.loader = _Loader(text)
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.open: list[_Open] = []
        self.nodes = 0
        self.aliased = 0

    def fail(self, code: str, message: str, span: Span, help: str = "", labels: tuple[Label, ...] = ()) -> SpecError:
        return SpecError([Diagnostic(code, message, span, help=help, labels=labels)])

    def span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        return Span(self.source, start.line + 1, start.column + 1, end.line + 1, end.column + 1)

    def events(self) -> Iterator[Any]:
        try:
            while self.loader.check_event():
                yield self.loader.get_event()
        finally:
            self.loader.dispose()

    def document(self) -> Node:
        root: Node | None = None
        for event in self.events():
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self.fail(
                    "several-documents", "a spec is one YAML document; here a second one begins", self.span(event),
                    "write one spec a file",
                )  # fmt: skip
            node = self.step(event)
            if node is not None and not self.open:
                root = node
        if root is None or (isinstance(root, Scalar) and root.value is None):
            raise self.fail(
                "empty-file", f"`{self.source.name}` is empty", whole_file(self.source.name, self.source.text),
                "a spec begins with `netspec: 1` and has `inputs` and `net`",
            )  # fmt: skip
        return root

    def step(self, event: Any) -> Node | None:
        """Takes one event; returns the node that it completes, if any."""
        if isinstance(event, yaml.ScalarEvent):
            return self.add(self.scalar(event), event.anchor, 1, 0)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self.start(event)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            done = self.open.pop()
            begin, end = done.node.span, self.span(event)
            done.node.span = Span(self.source, begin.line, begin.column, end.end_line, end.end_column)
            return self.add(done.node, done.anchor, done.size, done.height)
        return None

    def refuse_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            shown = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.fail(
                "yaml-tag", f"the tag `{shown}` is not allowed", self.span(event),
                "a spec is plain data: leave the tag out",
            )  # fmt: skip

    def scalar(self, event: Any) -> Scalar:
        self.refuse_tag(event)
        span = self.span(event)
        quoted = event.style in ('"', "'", "|", ">")
        return Scalar(event.value if quoted else plain_value(event.value, span), event.value, quoted, span)

    def start(self, event: Any) -> None:
        self.refuse_tag(event)
        span = self.span(event)
        self.check_depth(1, span)
        node: Sequence | Mapping
        node = Sequence([], span) if isinstance(event, yaml.SequenceStartEvent) else Mapping({}, span)
        self.open.append(_Open(node, event.anchor))

    def check_depth(self, more: int, span: Span) -> None:
        if len(self.open) + more > MAX_DEPTH:
            raise self.fail("nested-too-deep", f"nested deeper than {MAX_DEPTH} levels", span)

    def alias(self, event: Any) -> Node | None:
        span = self.span(event)
        if any(level.anchor == event.anchor for level in self.open):
            raise self.fail("alias-cycle", f"`*{event.anchor}` stands inside what it repeats", span)
        if event.anchor not in self.anchors:
            raise self.fail(
                "unknown-alias", f"`*{event.anchor}` repeats nothing: no `&{event.anchor}` stands before it", span
            )
        node, size, height = self.anchors[event.anchor]
        self.check_depth(height, span)
        self.aliased += size
        if self.aliased > MAX_ALIASED_NODES:
            raise self.fail(
                "alias-expansion", f"aliases expand to more than {MAX_ALIASED_NODES:,} nodes", span,
                "write a block and use it, or `repeat`",
            )  # fmt: skip
        return self.add(node, None, size, height)

    def add(self, node: Node, anchor: str | None, size: int, height: int) -> Node:
        """Puts a finished node into the collection that is open."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail("file-too-large", f"more than {MAX_NODES:,} values in one file", node.span)
        if anchor is not None:
            self.anchors[anchor] = (node, size, height)
        if not self.open:
            return node
        parent = self.open[-1]
        parent.size += size
        parent.height = max(parent.height, height + 1)
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
        elif parent.key is None:
            parent.key = self.key(node, parent.node)
        else:
            parent.node.entries[parent.key.text] = Entry(parent.key, node)
            parent.key = None
        return node

    def key(self, node: Node, mapping: Mapping) -> Scalar:
        if not isinstance(node, Scalar):
            raise self.fail("key-not-a-name", "a key is a name, not a list or a mapping", node.span)
        if node.text == "<<" and not node.quoted:
            raise self.fail(
                "merge-key", "merge keys (`<<`) are not part of the language", node.span,
                "write a block with arguments and use it in both places",
            )  # fmt: skip
        first = mapping.entries.get(node.text)
        if first is not None:
            raise self.fail(
                "duplicate-key", f"the key `{node.text}` stands twice in this mapping", node.span,
                "rename or remove one of the two: YAML readers would keep the last silently",
                (Label(first.key.span, "first given here"),),
            )  # fmt: skip
        return node
