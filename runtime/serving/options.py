"""How a model is served: what its ``config.pbtxt`` or the command line say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.engine import Device


@dataclass(frozen=True)
class WarmupInput:
    """One input of a warm-up run: zeros, random numbers, or what a file in the model's folder ``warmup/`` holds.

    Attributes:
        shape: without the batch dimension where the model is batched.
        data: ``zero``, ``random``, or the path of a file of raw little-endian elements.
    """

    shape: tuple[int, ...]
    data: str | Path = "random"


@dataclass(frozen=True)
class Warmup:
    """Runs before a model is ready: `count` of them with these inputs by name, in batches of `batch` rows."""

    name: str
    inputs: Mapping[str, WarmupInput]
    batch: int = 1
    count: int = 1


@dataclass(frozen=True)
class ModelOptions:
    """How one model is served.

    Attributes:
        device: where it runs.
        threads: CPU threads inside one operator; None for the cores divided by the instances.
        instances: how many batches run at once.
        max_batch: the most rows in a batch, where the model's batch is free; 1 turns batching off.
        preferred_batches: sizes at which a batch isn't kept waiting for more; empty: as soon as an instance is idle.
        max_delay: the seconds that a batch may wait for more rows.
        max_queue: the most requests that wait; more are refused at once.
        timeout: the seconds that a request may wait before it runs; None for no bound.
        warmup: runs before it is ready; empty for one run of zeros where the shapes are known.
    """

    device: Device = "auto"
    threads: int | None = None
    instances: int = 1
    max_batch: int = 8
    preferred_batches: tuple[int, ...] = ()
    max_delay: float = 0.0
    max_queue: int = 256
    timeout: float | None = None
    warmup: tuple[Warmup, ...] = field(default=())
