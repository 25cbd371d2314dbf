"""Which settings are tried: devices, threads, instances and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.engine_options import Device, EngineOptions, cores
from runtime.tensors import TensorSpec

BATCHES = (1, 2, 4, 8, 16)
# On a GPU the threads of the host do little; a second instance fills the time in which the first one copies.
GPU_INSTANCES = (1, 2)


@dataclass(frozen=True)
class Tried:
    """What the settings are made of; what is empty is chosen to fit the machine and the model.

    Attributes:
        threads: the CPU threads of one run.
        instances: how many runs at once.
        batches: rows at once, where the model's batch is free.
    """

    threads: tuple[int, ...] = ()
    instances: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()


def ways(base: EngineOptions, device: Device, tried: Tried) -> list[EngineOptions]:
    """The ways to load the model on `device`: `base` with other threads and instances.

    On the CPU these are 1, 2, 4, … threads up to one for each core, each with one instance and with as many as the
    cores have room for.

    Raises:
        DeviceError: several instances are asked for of a CUDA graph.
    """
    on_gpu = device != "cpu"
    found = []
    for threads in tried.threads or ((None,) if on_gpu else _powers(cores())):
        fitting = GPU_INSTANCES if on_gpu else sorted({1, max(1, cores() // (threads or 1))})
        for instances in tried.instances or ((1,) if base.cuda_graph else fitting):
            found.append(replace(base, device=device, threads=threads, instances=instances))
    return found


def batches(inputs: Sequence[TensorSpec], tried: Tried) -> tuple[int, ...]:
    """The batches to try, ascending; empty where the model's batch is fixed."""
    if not is_batched(inputs):
        return ()
    return tuple(sorted(set(tried.batches))) or BATCHES


def is_batched(inputs: Sequence[TensorSpec]) -> bool:
    """Whether every input leaves its first size free."""
    return bool(inputs) and all(spec.shape and not isinstance(spec.shape[0], int) for spec in inputs)


def _powers(most: int) -> tuple[int, ...]:
    """1, 2, 4, … below `most`, and `most`."""
    return (*(2**power for power in range((most - 1).bit_length())), most)
