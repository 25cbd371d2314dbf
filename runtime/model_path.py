"""The files of a model: how it is named on the command line, and what may stand in their place."""

import stat
from pathlib import Path

from runtime.errors import InputError, ModelError


def find_model(path: Path) -> Path:
    """The ONNX file that `path` means: itself, or the ``model.onnx`` in a directory.

    Raises:
        ModelError: a directory holds no ``model.onnx``.
    """
    if not path.is_dir():
        return path
    file = path / "model.onnx"
    if not file.is_file():
        raise ModelError(f"the directory {path} holds no model.onnx", help=_help(path))
    return file


def is_stream(path: Path) -> bool:
    """Whether a pipe, a socket or a device stands for a file: to read it may be to wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:  # told when it is read
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def refuse_named_pipe(path: Path) -> None:
    """Raises InputError where a pipe in a folder stands for a file; a shell's own, ``/dev/stdin`` or ``<(…)``, may."""
    if path.is_fifo() and path.absolute().parts[1:2] not in (("dev",), ("proc",)):
        raise InputError(f"cannot read {path}: it is a named pipe, not a file")


def _help(path: Path) -> str:
    if others := sorted(path.glob("*.onnx")):
        return f"name the file itself: {', '.join(map(str, others))}"
    if (path / "run.json").is_file():
        return f"it is a training run; write its model first, with `netspec export {path}`"
    return "name the .onnx file itself"
