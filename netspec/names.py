"""What can be a name in a spec: of a layer, an input, an argument, a block."""

from __future__ import annotations

import keyword
import re

from netspec.diagnostics import Diagnostic
from netspec.yaml_reader import Scalar

RESERVED = {
    "in": "what the enclosing container reads",
    "i": "the repeat index",
    "training": "a module's mode in PyTorch",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def is_name(text: str) -> bool:
    """Whether a text can name a layer, a block or an argument: a Python identifier that is no keyword."""
    return _NAME.match(text) is not None and not keyword.iskeyword(text)


def is_number(text: str) -> bool:
    """Whether a text is a whole number: the name of a turn of a `repeat`, or of a layer that others call so."""
    return text.isascii() and text.isdigit() and text == str(int(text))


def bad_name(key: Scalar, what: str) -> Diagnostic | None:
    """What is wrong with a name, if anything."""
    if key.text in RESERVED:
        message = f"`{key.text}` can't name {what}: it means {RESERVED[key.text]}"
        return Diagnostic("reserved-name", message, key.span)
    if not is_name(key.text):
        made = re.sub(r"[^A-Za-z0-9_]+", "_", key.text).strip("_")
        made = f"{what.split()[-1]}{made}" if made[:1].isdigit() or not made or keyword.iskeyword(made) else made
        return Diagnostic(
            "bad-name",
            f"`{key.text}` can't name {what}",
            key.span,
            help=f"a name has letters, digits and `_`, begins with no digit, and is no keyword: `{made}`, say",
        )
    return None
