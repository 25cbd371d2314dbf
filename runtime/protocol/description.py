"""What a server tells of itself and of its models, as plain data of the protocol's form."""

from collections.abc import Iterable, Sequence
from typing import Any

from runtime.protocol.datatypes import DATATYPES
from runtime.serving.model import ServedModel
from runtime.serving.repository import Entry
from runtime.serving.statistics import BatchStatistics, Duration, Statistics
from runtime.tensors import TensorSpec

NAME = "netspec"
PLATFORM = "onnxruntime_onnx"
# Nothing depends on another model here, so that unloading what depends on one is always done.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)


def server_metadata() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": NAME, "version": _version(), "extensions": list(EXTENSIONS)}


def _version() -> str:
    # As long to import as a twentieth of what a server takes to start, and asked for seldom.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("netspec")
    except PackageNotFoundError:  # it runs from a tree of sources
        return "unknown"


def model_metadata(model: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """A model's inputs and outputs, and the versions of it that serve."""
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [tensor_metadata(spec) for spec in model.inputs],
        "outputs": [tensor_metadata(spec) for spec in model.outputs],
    }


def tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    """A tensor's name, datatype and shape; −1 is a size that the model leaves open."""
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def index(entries: Iterable[Entry], ready_only: bool) -> list[dict[str, str]]:
    """The repository's index."""
    return [
        {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in entries
        if entry.state == "READY" or not ready_only
    ]


def model_statistics(models: Iterable[ServedModel]) -> dict[str, Any]:
    """What happened to the requests of these models: counts, and nanoseconds in all."""
    return {
        "model_stats": [{"name": model.name, "version": model.version, **_counts(model.statistics)} for model in models]
    }


def _counts(statistics: Statistics) -> dict[str, Any]:
    return {
        "last_inference": statistics.last_inference_ms,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {
            "success": _duration(statistics.success),
            "fail": _duration(statistics.fail),
            "queue": _duration(statistics.queue),
            "compute_input": _duration(statistics.compute_input),
            "compute_infer": _duration(statistics.compute_infer),
            "compute_output": _duration(statistics.compute_output),
        },
        "batch_stats": [_batch(rows, batch) for rows, batch in sorted(statistics.batches.items())],
    }


def _batch(rows: int, batch: BatchStatistics) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(batch.compute_input),
        "compute_infer": _duration(batch.compute_infer),
        "compute_output": _duration(batch.compute_output),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
