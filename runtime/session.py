"""A model that is loaded and ready to run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime import engine
from runtime.binding import BoundRun, FixedBuffers, HostRun, Runner, without_fixed_shape
from runtime.complaints import run_error
from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError, InputError, ModelError
from runtime.metadata import Metadata, read_metadata
from runtime.tensors import NUMPY_TYPES, TensorSpec, describe

AUTO = EngineOptions()


class Session:
    """A model on a device, which any number of threads may run at once.

    Attributes:
        path: the ``.onnx`` file.
        device: where it runs: ``cpu``, ``cuda`` or ``tensorrt``.
        device_reason: why there, in words.
        inputs: the model's inputs, in its order.
        outputs: the model's outputs, in its order.
        metadata: what the exporter wrote into the file about labels and preprocessing.
    """

    def __init__(
        self, path: str | Path, options: EngineOptions = AUTO, cancellation: engine.Cancellation | None = None
    ) -> None:
        """Loads the model at `path`; see `runtime.engine.load` for the errors raised, and for `cancellation`."""
        self.path = Path(path)
        loaded = engine.load(self.path, options, cancellation)
        self.device = loaded.device
        self.device_reason = loaded.reason
        self.inputs = tuple(_tensor_spec(self.path, argument) for argument in loaded.session.get_inputs())
        self.outputs = tuple(_tensor_spec(self.path, argument) for argument in loaded.session.get_outputs())
        stored = loaded.session.get_modelmeta().custom_metadata_map
        self.metadata: Metadata = read_metadata(self.path, stored, self.inputs, self.outputs)
        self._run = self._runner(loaded.session, options)
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Runs the model once.

        Args:
            feeds: every input by name, of exactly the type and shape that the model takes.
            outputs: the names of the outputs to compute; none for all.

        Returns:
            The outputs by name.

        Raises:
            InputError: a name, type or shape is wrong, or the model cannot compute on these values.
            RunError: memory ran out, or the device failed.
        """
        if len(feeds) != len(self.inputs):
            raise self._wrong_feeds(feeds)
        for spec in self.inputs:
            array = feeds.get(spec.name)
            if array is None or not spec.accepts(array):
                raise self._wrong_feeds(feeds)
        names = self._output_names if not outputs else self._known_outputs(outputs)
        try:
            results = self._run(names, feeds)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise run_error(error) from None
        return dict(zip(names, results, strict=True))

    def _runner(self, session: Any, options: EngineOptions) -> Runner:
        """How to run the session on its device."""
        specs = (*self.inputs, *self.outputs)
        if options.cuda_graph:
            if free := without_fixed_shape(specs):
                raise DeviceError(
                    f"a CUDA graph needs fixed shapes, and '{free.name}' of {self.path} is {free}",
                    help="leave cuda_graph out, or export the model with fixed sizes",
                )
            return FixedBuffers(session, self.inputs, self.outputs, "cuda", options.device_id or 0)
        has_text = any(spec.dtype.hasobject for spec in specs)  # text cannot be bound
        return HostRun(session) if self.device == "cpu" or has_text else BoundRun(session)

    def _known_outputs(self, names: Sequence[str]) -> list[str]:
        for name in names:
            if name not in self._output_names:
                raise InputError(f"the model has no output '{name}'; it has {_listing(self._output_names)}")
        return list(names)

    def _wrong_feeds(self, feeds: Mapping[str, np.ndarray]) -> InputError:
        """The error that says which of the feeds is wrong, and how."""
        expected = {spec.name: spec for spec in self.inputs}
        for name in feeds:
            if name not in expected:
                return InputError(f"the model has no input '{name}'; it has {_listing(list(expected))}")
        for name, spec in expected.items():
            if name not in feeds:
                return InputError(f"input '{name}' is missing; the model expects {spec}")
            array = feeds[name]
            if not spec.accepts(array):
                return InputError(f"input '{name}': the model expects {spec}, given {describe(array)}")
        raise AssertionError("called on feeds that are right")


def _tensor_spec(path: Path, argument: Any) -> TensorSpec:
    """The signature of one input or output, from ONNX Runtime's description of it."""
    dtype = NUMPY_TYPES.get(argument.type)
    if dtype is None:
        raise ModelError(f"cannot run {path}: '{argument.name}' is a {argument.type}, which NumPy has no arrays for")
    return TensorSpec(argument.name, dtype, tuple(argument.shape))


def _listing(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
