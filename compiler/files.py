"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compiler.errors import CompilerError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block ends well and removed when it does not.

    What stood at `path` stays until then, and survives a crash at any moment.

    Raises:
        CompilerError: the folder can't be written to, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        help = "what stood there before is unchanged" if path.exists() else ""
        raise CompilerError(f"`{path}` can't be written: {error.strerror or error}", help) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Waits until the content is on the disk: a rename may otherwise outlive a crash that the content does not."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole.

    Raises:
        CompilerError: it can't be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
