"""A model that is loaded and ready to run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime import engine
from runtime.engine import Device
from runtime.errors import InputError, ModelError
from runtime.metadata import Metadata, read_metadata
from runtime.tensors import NUMPY_TYPES, TensorSpec, describe


class Session:
    """A model on a device.

    Attributes:
        path: the ``.onnx`` file.
        device: where it runs: ``cpu``, ``cuda`` or ``tensorrt``.
        device_reason: why there, in words.
        inputs: the model's inputs, in its order.
        outputs: the model's outputs, in its order.
        metadata: what the exporter wrote into the file about labels and preprocessing.
    """

    def __init__(self, path: str | Path, device: Device = "auto", threads: int | None = None) -> None:
        """Loads the model at `path`; see `runtime.engine.load` for the arguments and the errors raised."""
        self.path = Path(path)
        loaded = engine.load(self.path, device, threads)
        self.device = loaded.device
        self.device_reason = loaded.reason
        self.inputs = tuple(_tensor_spec(self.path, argument) for argument in loaded.session.get_inputs())
        self.outputs = tuple(_tensor_spec(self.path, argument) for argument in loaded.session.get_outputs())
        stored = loaded.session.get_modelmeta().custom_metadata_map
        self.metadata: Metadata = read_metadata(self.path, stored, self.inputs, self.outputs)
        self._session = loaded.session
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Runs the model once.

        Args:
            feeds: every input by name, of exactly the type and shape that the model takes.
            outputs: the names of the outputs to compute; None for all.

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
        names = self._output_names if outputs is None else self._known_outputs(outputs)
        try:
            results = self._session.run(names, feeds)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise engine.run_error(error) from None
        return dict(zip(names, results, strict=True))

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
