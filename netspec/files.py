"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, moved there when the block ends well and removed when it does not.

    What stood at `path` stays until then, and survives a crash at any moment; its mode is kept.

    Args:
        lasting: wait until the content is on the disk, so that it outlives a power cut as well. What can be made again
            need not, and large files are written faster than a disk takes them.

    Raises:
        OSError: the folder can't be written to, the disk is full, or a device or pipe is at `path`.
    """
    path = place_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if lasting:
            _flush(temporary)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def place_of(path: Path) -> Path:
    """Where a file that is written to `path` lies: what is a link stays one.

    Raises:
        OSError: a device or pipe is there.
    """
    # Of a link to a pipe without a name, as `/dev/stdout` may be, this is a path where nothing is.
    place = path.resolve() if path.is_symlink() else path
    if path.exists() and not place.is_file() and not place.is_dir():
        # As the superuser `-o /dev/null` would otherwise put a file in the device's place, for the whole machine.
        raise OSError(errno.EINVAL, "it is a device or a pipe, which a file can't take the place of", str(path))
    return place


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file whole; text as UTF-8.

    Raises:
        OSError: the folder can't be written to, or the disk is full.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _flush(path: Path) -> None:
    """Waits until the content is on the disk: a rename may otherwise outlive a crash that the content does not."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
