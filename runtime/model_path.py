"""How a model is named on the command line."""

from pathlib import Path

from runtime.errors import ModelError


def find_model(path: Path) -> Path:
    """The ONNX file that `path` means: itself, or the ``model.onnx`` in a directory.

    Raises:
        ModelError: a directory holds no ``model.onnx``.
    """
    if not path.is_dir():
        return path
    file = path / "model.onnx"
    if not file.is_file():
        raise ModelError(f"the directory {path} holds no model.onnx", help="name the .onnx file itself")
    return file
