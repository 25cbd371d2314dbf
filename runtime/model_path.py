"""How a model is named on the command line."""

from pathlib import Path

from runtime.errors import ModelError


def find_model(path: Path) -> tuple[Path, str]:
    """The ONNX file that `path` means, and the model's name.

    A file is named after its stem; a directory means the ``model.onnx`` in it and gives the model its own name.

    Raises:
        ModelError: a directory holds no ``model.onnx``.
    """
    if not path.is_dir():
        return path, path.stem
    file = path / "model.onnx"
    if not file.is_file():
        raise ModelError(f"the directory {path} holds no model.onnx", help="name the .onnx file itself")
    return file, path.resolve().name or "model"
