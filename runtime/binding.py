"""How a session is run: straight, with tensors bound to a device, or over buffers that stay where they are."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from runtime.tensors import TensorSpec

# Bytes of inputs after which memory is given back. To take it anew then costs up to a tenth of the run.
LARGE = 32 * 2**20


class Runner(Protocol):
    """Runs a session on arrays of the host, and gives arrays of the host."""

    def __call__(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs called `names`, in that order."""


class HostRun:
    """Straight on the CPU; after large inputs the memory that the run took is given back.

    ONNX Runtime keeps it for the next one, dozens of times the size of the inputs, as long as the session lives:
    whoever sent one large request would have taken it for good. What the very first run took stays. Any number of
    threads may run it.
    """

    def __init__(self, session: Any) -> None:
        self._run = session.run
        self._giving_back = ort.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def __call__(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs once; see `Runner`."""
        is_large = sum([array.nbytes for array in feeds.values()]) >= LARGE
        results: list[np.ndarray] = self._run(names, feeds, self._giving_back if is_large else None)
        return results


class BoundRun:
    """Inputs bound from the host, outputs bound to the host: one copy each way, and one wait for the device at the end.

    Any number of threads may run it: each run has a binding of its own.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs once; see `Runner`."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in names:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        results: list[np.ndarray] = binding.copy_outputs_to_cpu()
        return results


class FixedBuffers:
    """Inputs and outputs in buffers on the device that are made once, as a CUDA graph needs them.

    A run copies its inputs in and its outputs out. ONNX Runtime records a graph for each thread that runs, so all runs
    are done by one, whoever calls: the first records, and those after it only play. One run at a time.
    """

    def __init__(
        self, session: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], device: str, device_id: int
    ) -> None:
        """Makes the buffers on `device`, ``cuda`` or ``cpu``; every shape has to be fixed."""

        def buffer(spec: TensorSpec) -> Any:
            return ort.OrtValue.ortvalue_from_shape_and_type(list(spec.shape), spec.dtype, device, device_id)

        self._session = session
        self._inputs = {spec.name: buffer(spec) for spec in inputs}
        self._outputs = {spec.name: buffer(spec) for spec in outputs}
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuda-graph")

    def __call__(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs once; see `Runner`."""
        return self._thread.submit(self._run, names, feeds).result()

    def _run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for name, array in feeds.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding)
        # on the CPU an array would be a view of the buffer, which the next run writes over
        return [np.array(self._outputs[name].numpy()) for name in names]


def without_fixed_shape(specs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The first tensor whose shape is not fixed, None where all are."""
    return next((spec for spec in specs if not spec.shape or not all(isinstance(n, int) for n in spec.shape)), None)
