"""ONNX Runtime's execution providers: which ones a device runs on, with which options, and whether they work here."""

import contextlib
import ctypes
import io
import sys
import tempfile
import threading
from pathlib import Path

import onnxruntime as ort

from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

# The providers that a device runs on, the best first; nodes that one cannot run go to the next.
PROVIDERS: dict[str, list[str]] = {"cpu": [CPU], "cuda": [CUDA, CPU], "tensorrt": [TENSORRT, CUDA, CPU]}
TITLES = {"cpu": "the CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}

# What both providers read as yes; TensorRT's refuses "1".
ON = "True"

_PRELOADING = threading.Lock()

Provider = tuple[str, dict[str, str]]


def providers_of(device: str, options: EngineOptions) -> list[Provider]:
    """The providers that a session for `device` is made with, each with its options in ONNX Runtime's names."""
    own = {CPU: {}, CUDA: _cuda_options(device, options), TENSORRT: _tensorrt_options(options)}
    return [(provider, own[provider]) for provider in PROVIDERS[device]]


def check_works(device: str, options: EngineOptions) -> None:
    """Raises DeviceError when it is known before a session is made that the device or its options will not work."""
    if options.engine_cache is not None:
        _check_writable(options.engine_cache)
    if reason := _why_unavailable(device, options.device_id or 0):
        raise device_error(device, reason)


def finds_nvidia() -> bool:
    """Whether this machine has NVIDIA's driver or a GPU of theirs, by what is quick to see."""
    return _driver() is not None or any(Path("/dev").glob("nvidia*"))


def device_error(device: str, reason: str) -> DeviceError:
    """The error that says why a device does not work."""
    return DeviceError(
        f"{TITLES[device]} does not work here: {reason}",
        help="use --device cpu, or install what is missing (pip install 'onnxruntime-gpu[cuda,cudnn]' brings CUDA)",
    )


def _cuda_options(device: str, options: EngineOptions) -> dict[str, str]:
    chosen = {"device_id": str(options.device_id or 0)}
    if options.gpu_memory is not None:
        # By default the arena doubles each time, and a bound would be reached long before that much is used.
        chosen |= {"gpu_mem_limit": str(options.gpu_memory), "arena_extend_strategy": "kSameAsRequested"}
    if options.cuda_graph and device == "cuda":
        chosen["enable_cuda_graph"] = ON
    return chosen


def _tensorrt_options(options: EngineOptions) -> dict[str, str]:
    chosen = {"device_id": str(options.device_id or 0)}
    if options.fp16:
        chosen["trt_fp16_enable"] = ON
    if options.cuda_graph:
        chosen["trt_cuda_graph_enable"] = ON
    if options.engine_cache is not None:
        for kind in ("engine", "timing"):
            chosen |= {f"trt_{kind}_cache_enable": ON, f"trt_{kind}_cache_path": str(options.engine_cache.resolve())}
    return chosen


def _check_writable(folder: Path) -> None:
    """Makes the folder of the engine cache where there is none; raises DeviceError when nothing can be kept in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DeviceError(
            f"TensorRT's engines cannot be kept in {folder}: {error.strerror}",
            help="name another folder with engine_cache, or leave it out to build at each start",
        ) from None


def _why_unavailable(device: str, device_id: int) -> str | None:
    """Why ONNX Runtime cannot use the device, None where nothing is known to stand against it."""
    available = ort.get_available_providers()
    for provider in PROVIDERS[device]:
        if provider not in available:
            return f"this build of ONNX Runtime ({ort.__version__}) is without {provider}"
    if device == "cpu":
        return None
    _preload_cuda()
    if reason := next(filter(None, map(_loader_error, PROVIDERS[device][:-1])), None):
        return reason
    count = _gpu_count()
    if count is not None and device_id >= count:
        found = "no GPU" if count == 0 else "one, number 0" if count == 1 else f"{count}, numbered from 0"
        return f"there is no GPU with the number {device_id}; the driver finds {found}"
    return None


def _preload_cuda() -> None:
    """Loads the CUDA libraries that came as wheels, which the system's loader does not find by itself."""
    # It prints what it does not find. All threads have one stdout: two that put it back out of turn would lose it.
    with _PRELOADING, contextlib.redirect_stdout(io.StringIO()):
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


def _gpu_count() -> int | None:
    """How many GPUs NVIDIA's driver shows to this process; None where the driver can't be asked."""
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):  # each returns 0 for success
        return None
    return count.value


def _driver() -> ctypes.CDLL | None:
    """NVIDIA's driver, None where there is none."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
