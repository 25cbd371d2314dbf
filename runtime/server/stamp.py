"""How a file that changes is noticed."""

from pathlib import Path
from stat import S_ISREG

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What changes with a file, also when it's replaced by another of the same time.

    None where there is none, or a pipe, which is read at the start alone: who waits for its other end answers nobody.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    if not S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
