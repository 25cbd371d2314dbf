"""A folder that was written for an engine: each part of it whole or not at all, and nobody else's work lost.

What was written is noted in the folder with the digests of the files, so that a part which was changed since, or which
another wrote, is recognised and left alone.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from runtime.errors import OutputError

NOTE = ".netspec-deploy.json"

# A file to write: its content, or the file to copy.
Content = bytes | Path


def write_folder(folder: Path, files: Mapping[str, Content], force: bool) -> None:
    """Writes files into `folder`, which is made where it isn't there.

    What lies beside them stays. A folder directly in `folder` is replaced as a whole.

    Args:
        folder: where to.
        files: what to write, by paths within the folder with slashes.
        force: whether to replace what is there though another wrote or changed it.

    Raises:
        OutputError: something is in the way, or can't be written; then everything is as it was.
    """
    parts = sorted({path.partition("/")[0] for path in files})
    try:
        noted = _read_note(folder)
        if not force:
            for part in parts:
                _check_ours(folder / part, noted.get(part))
        with _staging(folder) as staging:
            for path, content in files.items():
                _write(staging, folder, path, content)
            note = noted | {part: _digests(staging / part) for part in parts}
            noted_bytes = orjson.dumps(note, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
            _write(staging, folder, NOTE, noted_bytes)
            folder.mkdir(parents=True, exist_ok=True)
            _exchange(staging, folder, [*parts, NOTE])
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from None


def _check_ours(part: Path, noted: Mapping[str, str] | None) -> None:
    if not os.path.lexists(part):
        return
    help = "name another directory, or replace it with --force"
    if noted is None:
        raise OutputError(f"{part} is there already, and `netspec deploy` did not write it", help)
    if part.is_symlink() or _digests(part) != noted:
        raise OutputError(f"{part} was changed since `netspec deploy` wrote it", help)


def _read_note(folder: Path) -> dict[str, dict[str, str]]:
    """What was written before: for each part the digests of its files; nothing where the note is no such thing."""
    try:
        note = orjson.loads((folder / NOTE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return note if isinstance(note, dict) else {}


def _digests(part: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder, or of one file."""
    files = [part] if part.is_file() else [path for path in part.rglob("*") if not path.is_dir()]
    digests = {}
    for file in files:
        with file.open("rb") as content:
            digests[file.relative_to(part.parent).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder from which one can move into `folder`, where that is a file system of its own too; it is removed."""
    place = folder.resolve()
    around = place if place.is_dir() else place.parent
    around.mkdir(parents=True, exist_ok=True)
    staging = around / f".{place.name}.{os.getpid()}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(staging: Path, folder: Path, path: str, content: Content) -> None:
    """Writes one file into the staging; an error tells where in `folder` it was to be."""
    staged = staging / path
    try:
        staged.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, staged)
        else:
            staged.write_bytes(content)
    except OSError as error:
        source = f" from {content}" if isinstance(content, Path) else ""
        raise OutputError(f"cannot write {folder / path}{source}: {error.strerror or error}") from None


def _exchange(staging: Path, folder: Path, parts: list[str]) -> None:
    """Moves the parts into the folder, and what was there into the staging; all of them, or none."""
    kept = staging / ".before"
    kept.mkdir()
    with contextlib.ExitStack() as undo:
        for part in parts:
            if os.path.lexists(folder / part):
                (folder / part).rename(kept / part)
                undo.callback((kept / part).rename, folder / part)
            (staging / part).rename(folder / part)
            undo.callback((folder / part).rename, staging / part)
        undo.pop_all()
