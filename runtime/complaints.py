"""What ONNX Runtime says when a model cannot be loaded or run, in words that say what to do."""

import os
import re
from pathlib import Path

import onnxruntime as ort

from runtime.errors import InputError, ModelError, RunError

# A side file of weights must lie in the model's folder: how ONNX Runtime says that one does not. It looks where a path
# leads, so a symbolic link is no way out; in a graph inside a node it refuses every link.
OUTSIDE = re.compile(
    r"External data path escapes model directory|Absolute path not allowed for external data"
    r"|points outside the directory|resolves outside model directory|an absolute path|it is a symbolic link"
)
SIDE_FILE = re.compile(
    r"External data path: (\".+?\")|but ('.+?') points outside|stored in (.+?), but it is a symbolic"
)

# That memory ran out, within a bound of it too, or that a device or one of its libraries failed.
DEVICE = re.compile(
    r"allocate memory|bad_alloc|out of memory|smaller than requested bytes|(?:CUDA|CU[A-Z]+) failure \d|TensorRT EP"
)


def model_error(path: Path, error: Exception) -> ModelError:
    """ONNX Runtime's complaint about the model at `path`."""
    full, text = str(error), error_text(error)
    if OUTSIDE.search(full):
        found = SIDE_FILE.search(full)
        where = f": {next(filter(None, found.groups()))}" if found else ""
        return ModelError(
            f"{path} wants to read weights from outside its own folder{where}; that is refused",
            help="keep the side files of a model beside it, and name them by relative paths",
        )
    if "rotobuf" in text:  # Protobuf, or INVALID_PROTOBUF
        return ModelError(f"{path} is not an ONNX file, or it is damaged", help=spec_help(path))
    if found := re.search(r"Opset (\d+) is under development.*?(?:till opset (\d+)|$)", full, re.DOTALL):
        newest = f" (the newest it knows is {found[2]})" if found[2] else ""
        return ModelError(
            f"{path} has opset {found[1]}, too new for ONNX Runtime {ort.__version__}{newest}",
            help="export with an older opset, or install a newer onnxruntime",
        )
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", text):
        return ModelError(
            f"{path} has IR version {found[1]}, too new for ONNX Runtime {ort.__version__} (at most {found[2]})",
            help="export with an older IR version, or install a newer onnxruntime",
        )
    if found := re.search(r'External data path does not exist: "(.+?)"', text):
        return ModelError(
            f"the weights of {path} are missing: there is no {found[1]}",
            help="keep the side file that the export wrote beside the model",
        )
    if found := re.search(r"reads require a regular file: (.+)", text):
        return ModelError(f"cannot read the weights of {path}: {found[1]} is not a regular file")
    return ModelError(f"cannot load {path}: {text}")


def spec_help(path: Path) -> str | None:
    """What to do where a spec seems to be named in place of a model, by its file or as one of the zoo."""
    if path.suffix not in {".yaml", ".yml"} and (path.suffix or path.name != str(path)):
        return None
    return f"a model is an .onnx file; `netspec export {path} -o {path.with_suffix('.onnx')}` makes one of a spec"


def run_error(error: Exception) -> InputError | RunError:
    """What ONNX Runtime says when a run fails: nearly always that a size inside the network does not come out."""
    text = error_text(error)
    asked = re.search(r"allocate memory for requested buffer of size (\d+)", text)
    if asked and int(asked[1]) > _memory_bytes():
        return InputError(f"the model would need {int(asked[1]) / 2**30:,.0f} GiB for this input, more than there is")
    if isinstance(error, MemoryError) or DEVICE.search(text):
        return RunError(f"the model could not be run: {text}")
    return InputError(f"the model cannot compute on this input: {text}")


def error_text(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its error codes and its C++ source locations."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"^Load model from .*? failed:", "", text)
    # either a whole C++ signature follows the place in the source, or the bare name of a function
    text = re.sub(r"\S+\.(?:cc|cpp|cu|h|hpp):\d+ (?:[\w:<>*&~, ]+\([^\n\"']*?\)(?: const)?|\w+) (?=\S)", "", text)
    return text.strip().split("\n")[0].rstrip(" .")


def _memory_bytes() -> int:
    """The memory of the machine in bytes; where the system doesn't say, as much as an address can reach."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**48
