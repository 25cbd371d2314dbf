"""How a model is loaded: the device, its threads, and what only a GPU knows.

An option that the device has no use for is an error, so that nothing that was asked for is silently left undone.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from runtime.errors import DeviceError

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
DEVICES: tuple[Device, ...] = get_args(Device)

# What only some devices have a use for. TensorRT takes its memory by itself: a bound would hold for CUDA alone.
GOES_WITH: dict[str, tuple[Device, ...]] = {
    "device_id": ("cuda", "tensorrt"),
    "gpu_memory": ("cuda",),
    "cuda_graph": ("cuda", "tensorrt"),
    "fp16": ("tensorrt",),
    "engine_cache": ("tensorrt",),
}

# More threads than any machine has cores are a mistake, and ONNX Runtime would start them all.
MAX_THREADS = 1024
# A day: whoever asks for more to wait has mistaken the unit.
MAX_SECONDS = 86_400


@dataclass(frozen=True)
class EngineOptions:
    """How a model is loaded.

    Attributes:
        device: where it runs. ``auto`` is CUDA where it works, else the CPU; TensorRT is never chosen unasked, since it
            may build for minutes.
        threads: the CPU threads of one run; None for the cores divided by the instances.
        instances: how many runs at once the session is made for. They share its weights.
        spinning: whether idle threads wait busily, which answers a lone run sooner and takes the cores from all else;
            None for where there is one instance.
        device_id: the number of the GPU; None for the first.
        gpu_memory: the most bytes that CUDA takes of the GPU for the session's tensors; None for no bound.
        cuda_graph: whether the run is recorded once and played again: less to launch, and every shape must be fixed.
        fp16: whether TensorRT may compute in half precision, whatever the model's own type is.
        engine_cache: the folder in which TensorRT keeps what it built, for the next start; None for no cache.

    Raises:
        DeviceError: a number is out of bounds, or an option goes with another device.
    """

    device: Device = "auto"
    threads: int | None = None
    instances: int = 1
    spinning: bool | None = None
    device_id: int | None = None
    gpu_memory: int | None = None
    cuda_graph: bool = False
    fp16: bool = False
    engine_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise DeviceError(f"there is no device '{self.device}'; there are {', '.join(DEVICES)}")
        _check_range("threads", self.threads, 1, MAX_THREADS)
        _check_range("instances", self.instances, 1, MAX_THREADS)
        _check_range("device_id", self.device_id, 0, None)
        _check_range("gpu_memory", self.gpu_memory, 1, None)
        for name, devices in GOES_WITH.items():
            value = getattr(self, name)
            if value is not None and value is not False and self.device not in devices:
                raise DeviceError(
                    f"{name} has no meaning on the device {self.device}",
                    help=f"name a device that it goes with ({' or '.join(devices)}), or leave {name} out",
                )
        if self.cuda_graph and self.instances > 1:
            raise DeviceError(
                f"a CUDA graph has one set of buffers, and {self.instances} instances would share it",
                help="take one instance, or leave cuda_graph out",
            )

    @property
    def threads_of_a_run(self) -> int:
        """The CPU threads of one run."""
        return self.threads or max(1, cores() // self.instances)

    @property
    def spins(self) -> bool:
        """Whether idle threads wait busily."""
        return self.instances == 1 if self.spinning is None else self.spinning


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_range(name: str, value: int | None, least: int, most: int | None) -> None:
    if value is not None and (value < least or (most is not None and value > most)):
        bounds = f"at least {least}" if most is None else f"in {least}…{most}"
        raise DeviceError(f"{name} is {value}, and must be {bounds}")
