"""Which fields of a model configuration are honoured, which are harmless, and which stand against serving the model.

A field that stands in none of the three tables is refused too: nothing that is asked for is silently left undone.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from runtime.protocol.config_text import ConfigText
from runtime.protocol.messages import Message

# Read by `model_config` and `config_device`. A map is a field like any other.
HONOURED = frozenset(
    {
        "name",
        "platform",
        "backend",
        "version_policy.latest.num_versions",
        "version_policy.specific.versions",
        "max_batch_size",
        "input.name",
        "input.data_type",
        "input.format",
        "input.dims",
        "output.name",
        "output.data_type",
        "output.dims",
        "output.label_filename",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
        "dynamic_batching.default_queue_policy.timeout_action",
        "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        "dynamic_batching.default_queue_policy.allow_timeout_override",
        "dynamic_batching.default_queue_policy.max_queue_size",
        "instance_group.kind",
        "instance_group.count",
        "instance_group.gpus",
        "optimization.cuda.graphs",
        "optimization.execution_accelerators.gpu_execution_accelerator.name",
        "optimization.execution_accelerators.gpu_execution_accelerator.parameters",
        "default_model_filename",
        "parameters",
        "model_warmup.name",
        "model_warmup.batch_size",
        "model_warmup.inputs",
        "model_warmup.count",
    }
)

# Not done, and no result differs for it: the reason is said in a warning.
HARMLESS = {
    "instance_group.name": "instances have no names here",
    "metric_tags": "metrics have the model's name and version alone",
    "optimization.input_pinned_memory.enable": "ONNX Runtime chooses the memory of inputs",
    "optimization.output_pinned_memory.enable": "ONNX Runtime chooses the memory of outputs",
    "dynamic_batching.preserve_ordering": "a client has its answers in the order of its stream or connection anyhow",
}

_PLAIN = "an input or output has its model's own shape"
_CODE = "nothing is loaded from a model's folder but the model: no code runs"

# Why each of these is refused. A message is refused as a whole.
REFUSED = {
    "sequence_batching": "every request stands for itself: no state is kept between them",
    "ensemble_scheduling": "one model is one ONNX file: join them in one, or ask them one after the other",
    "batch_input": "an input comes from the request alone",
    "batch_output": "outputs are divided by rows alone",
    "input.reshape": _PLAIN,
    "input.is_shape_tensor": "TensorRT's shape tensors have no place in an ONNX model",
    "input.allow_ragged_batch": "only requests of one shape are joined",
    "input.optional": "ONNX models take all their inputs",
    "output.reshape": _PLAIN,
    "output.is_shape_tensor": "TensorRT's shape tensors have no place in an ONNX model",
    "dynamic_batching.priority_levels": "requests are served in the order of their arrival",
    "dynamic_batching.default_priority_level": "requests are served in the order of their arrival",
    "dynamic_batching.priority_queue_policy": "requests are served in the order of their arrival",
    "instance_group.rate_limiter": "instances don't wait for resources",
    "instance_group.secondary_devices": "one device runs a model",
    "instance_group.profile": "TensorRT's profiles have no place in an ONNX model",
    "instance_group.passive": "every instance takes requests",
    "instance_group.host_policy": "there are no host policies here",
    "optimization.graph": "ONNX Runtime optimises a graph as far as it can",
    "optimization.priority": "all models share the machine equally",
    "optimization.cuda.busy_wait_events": "ONNX Runtime chooses how it waits for the GPU",
    "optimization.cuda.graph_spec": "a graph is recorded for the model's own shapes",
    "optimization.cuda.output_copy_stream": "ONNX Runtime chooses the GPU's streams",
    "optimization.execution_accelerators.cpu_execution_accelerator": "ONNX Runtime's own CPU provider runs models",
    "optimization.gather_kernel_buffer_threshold": "batches are joined in the host's memory",
    "optimization.eager_batching": "a batch is joined when an instance is idle",
    "cc_model_filenames": "there is one file to a version",
    "model_operations": _CODE,
    "model_repository_agents": _CODE,
    "model_transaction_policy.decoupled": "every request has exactly one answer",
    "response_cache.enable": "no answers are kept",
}


def check_fields(config: ConfigText) -> tuple[str, ...]:
    """Checks that every field of the configuration is honoured or harmless; returns the warnings of the latter.

    Raises:
        ModelError: a field is refused; the message says where it stands and why.
    """
    seen: Counter[str] = Counter()
    warnings = []
    for path, field, value in _fields(config.message, ""):
        nth = seen[path]
        seen[path] += 1
        if path in REFUSED:
            raise config.error(path, f"is not supported: {REFUSED[path]}", "take the field out", nth)
        if path in HARMLESS:
            warnings.append(f"{config.where(path, nth)}: '{path}' has no effect: {HARMLESS[path]}")
        elif path not in HONOURED and (field.message_type is None or _is_map(field)):
            raise config.error(path, "is not supported", "take the field out", nth)
        elif field.enum_type is not None and value not in field.enum_type.values_by_number:
            raise config.error(path, f"is {value}, which stands for nothing", "write a name instead of a number", nth)
    return tuple(warnings)


def _fields(message: Message, around: str) -> Iterator[tuple[str, FieldDescriptor, Any]]:
    """Every field that is set: its path, what it is, and its value; those within a message follow it."""
    for field, value in message.ListFields():
        path = f"{around}{field.name}"
        if field.message_type is None or _is_map(field):
            yield path, field, value
            continue
        for part in value if field.is_repeated else [value]:
            yield path, field, part
            yield from _fields(part, f"{path}.")


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
