"""How a model is served: what its ``config.pbtxt`` or the command line say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.engine_options import EngineOptions
from runtime.tensors import TensorSpec

# More rows in a batch, and more requests that wait, than any machine has the memory for are mistakes.
MAX_BATCH = 2**16
MAX_QUEUE = 2**20


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
class VersionPolicy:
    """Which of the versions in a repository are served.

    Attributes:
        latest: the newest so many; None for no bound. Nothing where `specific` names any.
        specific: these.
    """

    latest: int | None = 1
    specific: tuple[str, ...] = ()

    def choose(self, versions: Sequence[str]) -> list[str]:
        """The versions to serve of those there, which are sorted with the newest last."""
        if self.specific:
            return [version for version in versions if version in self.specific]
        return list(versions if self.latest is None else versions[-self.latest :])


@dataclass(frozen=True)
class ModelOptions(EngineOptions):
    """How one model is served, beyond how it is loaded: an instance runs one batch at a time.

    Attributes:
        max_batch: the most rows in a batch, where the model's batch is free; 1 turns batching off.
        insist_on_batching: whether to refuse a model whose rows can't run together, as its configuration says they can.
        preferred_batches: sizes at which a batch isn't kept waiting for more; empty: as soon as an instance is idle.
        max_delay: the seconds that a batch may wait for more rows.
        max_queue: the most requests that wait; more are refused at once.
        timeout: the seconds that a request may wait before it runs; None for no bound.
        warmup: runs before it is ready; empty for one run of zeros where the shapes are known.
        versions: which versions are served.
        file: the name of the model's file in the folder of a version.
        inputs: what the configuration declares of the inputs, all of them where it declares any.
        outputs: what it declares of outputs.
        labels: the names of classes, by the output that has a score for each.
        warnings: what the configuration asks for without effect; told when the model is loaded.
    """

    max_batch: int = 8
    insist_on_batching: bool = False
    preferred_batches: tuple[int, ...] = ()
    max_delay: float = 0.0
    max_queue: int = 256
    timeout: float | None = None
    warmup: tuple[Warmup, ...] = ()
    versions: VersionPolicy = VersionPolicy()
    file: str = "model.onnx"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
