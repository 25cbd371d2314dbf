"""Files are written whole or not at all, and what goes wrong is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from compiler.errors import CompilerError
from netspec import files


@contextlib.contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """As `netspec.files.whole_file`.

    Raises:
        CompilerError: the folder can't be written to, or the disk is full.
    """
    with _told(path), files.whole_file(path, lasting) as temporary:
        yield temporary


def place_of(path: Path) -> Path:
    """As `netspec.files.place_of`.

    Raises:
        CompilerError: a device or pipe is there.
    """
    with _told(path):
        return files.place_of(path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tells what goes wrong while `path` is written."""
    try:
        yield
    except OSError as error:
        help = "what stood there before is unchanged" if path.exists() else ""
        raise CompilerError(f"`{path}` can't be written: {error.strerror or error}", help) from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole.

    Raises:
        CompilerError: it can't be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
