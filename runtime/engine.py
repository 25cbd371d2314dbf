"""Loading a model into ONNX Runtime on a device that is chosen openly.

ONNX Runtime falls back to the CPU without a word when CUDA's libraries cannot be loaded. Here a device that was asked
for is the device that runs, or an error says why it cannot be.
"""

import contextlib
import ctypes
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime as ort

from runtime.errors import DeviceError, InputError, ModelError, RunError

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
DEVICES: tuple[Device, ...] = get_args(Device)

# The providers that a device runs on, the best first; nodes that one cannot run go to the next.
PROVIDERS: dict[str, list[str]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
TITLES = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}

# More threads than any machine has cores are a mistake, and ONNX Runtime would start them all.
MAX_THREADS = 1024

# Every failure reaches the caller as an exception; the same text on stderr, from C++, would only be noise.
ort.set_default_logger_severity(4)


@dataclass(frozen=True)
class Engine:
    """A loaded model: ONNX Runtime's session, the device that runs it (never ``auto``), and why that device."""

    session: Any
    device: str
    reason: str


def load(path: Path, device: Device, threads: int | None) -> Engine:
    """Loads the model at `path` for `device`; weights in a side file are found beside the model.

    ``auto`` is CUDA where it works, else the CPU. TensorRT is never chosen unasked: it may build for minutes.
    `threads` is the number of CPU threads inside one operator, None for one per core.

    Raises:
        ModelError: the file is missing, damaged, or not a model that this ONNX Runtime can run.
        DeviceError: the device was named and does not work here; the message says why.
        ValueError: `threads` is not in 1…1024.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is {threads}, not in 1…{MAX_THREADS}")
    check_readable(path)
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if device != "auto":
        return Engine(_create(path, options, device), device, "as asked")
    try:
        return Engine(_create(path, options, "cuda"), "cuda", "auto: CUDA works here")
    except DeviceError as error:
        return Engine(_create(path, options, "cpu"), "cpu", f"auto: {error.message}")


def check_readable(path: Path) -> None:
    """Raises ModelError when there is no file with something in it at `path`."""
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a directory, not an ONNX file")
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is not a regular file")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise ModelError(f"there is no model at {path}") from None
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from None
    except ValueError:  # it holds a NUL
        raise ModelError(f"{str(path)!r} is no path of a file") from None
    if empty:
        raise ModelError(f"the model {path} is empty", help="export it again: the file was not written to its end")


def _create(path: Path, options: Any, device: str) -> Any:
    """An InferenceSession whose first provider is the device's own."""
    if reason := _why_unavailable(device):
        raise _device_error(device, reason)
    try:
        # Without enable_fallback=0 a failing device is announced on stdout and replaced by the CPU.
        session = ort.InferenceSession(path, options, providers=PROVIDERS[device], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        if device == "cpu":
            raise _model_error(path, error) from None
        _create(path, options, "cpu")  # a model that is at fault itself fails here too, and says so
        raise _device_error(device, error_text(error)) from None
    if PROVIDERS[device][0] not in session.get_providers():
        raise _device_error(device, "ONNX Runtime fell back to the CPU without a reason")
    return session


def _why_unavailable(device: str) -> str | None:
    """Why ONNX Runtime cannot use the device, None where nothing is known to stand against it."""
    available = ort.get_available_providers()
    for provider in PROVIDERS[device]:
        if provider not in available:
            return f"this build of ONNX Runtime ({ort.__version__}) is without {provider}"
    if device == "cpu":
        return None
    _preload_cuda()
    return next(filter(None, map(_loader_error, PROVIDERS[device][:-1])), None)


def _device_error(device: str, reason: str) -> DeviceError:
    return DeviceError(
        f"{TITLES[device]} does not work here: {reason}",
        help="use --device cpu, or install what is missing (pip install 'onnxruntime-gpu[cuda,cudnn]' brings CUDA)",
    )


def _preload_cuda() -> None:
    """Loads the CUDA libraries that came as wheels, which the system's loader does not find by itself."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()


def _loader_error(provider: str) -> str | None:
    """The dynamic loader's own words on why a provider's library cannot be loaded, None where it can be."""
    if not sys.platform.startswith("linux"):
        return None
    folder = Path(ort.__file__).parent / "capi"
    name = provider.removesuffix("ExecutionProvider").lower()
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"))
    except OSError as error:
        return str(error)
    return None


def _model_error(path: Path, error: Exception) -> ModelError:
    """ONNX Runtime's complaint about a model, in words that say what to do."""
    text = error_text(error)
    if "rotobuf" in text:  # Protobuf, or INVALID_PROTOBUF
        return ModelError(f"{path} is not an ONNX file, or it is damaged")
    if found := re.search(r"Opset (\d+) is under development.*?(?:till opset (\d+)|$)", str(error), re.DOTALL):
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
    return ModelError(f"cannot load {path}: {text}")


def run_error(error: Exception) -> InputError | RunError:
    """What ONNX Runtime says when a run fails: nearly always that a size inside the network does not come out."""
    text = error_text(error)
    if isinstance(error, MemoryError) or re.search(r"allocate memory|bad_alloc|out of memory|CUDA failure|CUDNN", text):
        return RunError(f"the model could not be run: {text}")
    return InputError(f"the model cannot compute on this input: {text}")


def error_text(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its error codes and its C++ source locations."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"^Load model from .*? failed:", "", text)
    # either a whole C++ signature follows the place in the source, or the bare name of a function
    text = re.sub(r"\S+\.(?:cc|cpp|cu|h|hpp):\d+ (?:[\w:<>*&~, ]+\([^\n\"']*?\)(?: const)?|\w+) (?=\S)", "", text)
    return text.strip().split("\n")[0].rstrip(" .")
