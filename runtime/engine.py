"""Loading a model into ONNX Runtime on a device that is chosen openly.

ONNX Runtime falls back to the CPU without a word when CUDA's libraries cannot be loaded. Here a device that was asked
for is the device that runs, or an error says why it cannot be.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from runtime.complaints import error_text, model_error, spec_help
from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError, ModelError
from runtime.model_path import is_stream
from runtime.providers import PROVIDERS, TITLES, check_works, device_error, finds_nvidia, providers_of

# Every failure reaches the caller as an exception; the same text on stderr, from C++, would only be noise.
ort.set_default_logger_severity(4)


@dataclass(frozen=True)
class Engine:
    """A loaded model: ONNX Runtime's session, the device that runs it (never ``auto``), and why that device."""

    session: Any
    device: str
    reason: str


class Cancellation:
    """Ends loads that nobody waits for any more, those that have begun and those to come."""

    def __init__(self) -> None:
        self._loading: list[Any] = []
        self._is_cancelled = False

    def include(self, options: Any) -> None:
        """Includes the load that has these options of ONNX Runtime."""
        self._loading.append(options)
        if self._is_cancelled:
            options.set_load_cancellation_flag(True)

    def cancel(self) -> None:
        """Has them end with an error; ONNX Runtime looks for this between its steps."""
        self._is_cancelled = True
        for options in self._loading:
            options.set_load_cancellation_flag(True)


def load(path: Path, options: EngineOptions, cancellation: Cancellation | None = None) -> Engine:
    """Loads the model at `path`; weights in a side file are found beside the model, and nowhere else.

    Raises:
        ModelError: the file is missing, damaged, or not a model that this ONNX Runtime can run; or its load was ended.
        DeviceError: the device was named and does not work here; the message says why.
    """
    check_readable(path)
    if options.device == "auto" and not finds_nvidia():
        return Engine(_create(path, options, "cpu", cancellation), "cpu", "auto: there is no CUDA device")
    if options.device != "auto":
        return Engine(_create(path, options, options.device, cancellation), options.device, "as asked")
    try:
        return Engine(_create(path, options, "cuda", cancellation), "cuda", "auto: CUDA works here")
    except DeviceError as error:
        return Engine(_create(path, options, "cpu", cancellation), "cpu", f"auto: {error.message}")


def check_readable(path: Path) -> None:
    """Raises ModelError when there is no file with something in it at `path`."""
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a directory, not an ONNX file")
        if is_stream(path):
            raise ModelError(f"{path} is not a regular file")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise ModelError(f"there is no model at {path}", help=spec_help(path)) from None
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from None
    except ValueError:  # it holds a NUL
        raise ModelError(f"{str(path)!r} is no path of a file") from None
    if empty:
        raise ModelError(f"the model {path} is empty", help="export it again: the file was not written to its end")


def _create(path: Path, options: EngineOptions, device: str, cancellation: Cancellation | None) -> Any:
    """An InferenceSession whose first provider is the device's own."""
    check_works(device, options)
    chosen = _session_options(options, device)
    if cancellation is not None:
        cancellation.include(chosen)
    try:
        session = ort.InferenceSession(
            path,
            chosen,
            providers=providers_of(device, options),
            enable_fallback=0,  # else a failing device is announced on stdout and replaced by the CPU
        )
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        if device == "cpu":
            raise model_error(path, error) from None
        # A model that is at fault itself fails here too, and says so.
        _create(path, EngineOptions("cpu"), "cpu", cancellation)
        text = error_text(error)
        if options.cuda_graph and "graph capture" in text:
            raise DeviceError(f"{path} cannot be run as a CUDA graph: {text}", help="leave cuda_graph out") from None
        raise device_error(device, text) from None
    _check_runs_there(path, session, device)
    return session


def _session_options(options: EngineOptions, device: str) -> Any:
    """The threads of a session, and that it takes down which provider runs what."""
    chosen = ort.SessionOptions()
    if options.threads is not None or options.instances > 1:
        # The thread that calls works too; the session's own threads help whichever of the callers can use them.
        chosen.intra_op_num_threads = options.instances * (options.threads_of_a_run - 1) + 1
    chosen.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spins)))
    if device != "cpu":
        chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return chosen


def _check_runs_there(path: Path, session: Any, device: str) -> None:
    """Raises DeviceError when ONNX Runtime gave the device no part of the model, which it does without a word."""
    provider = PROVIDERS[device][0]
    if provider not in session.get_providers():
        raise device_error(device, "ONNX Runtime fell back to the CPU without a reason")
    if device != "cpu" and provider not in {part.ep_name for part in session.get_provider_graph_assignment_info()}:
        raise DeviceError(
            f"{TITLES[device]} runs none of the operators of {path}",
            help="use --device cpu" if device == "cuda" else "use --device cuda, or cpu",
        )
