"""The configuration of a model that is served, as its clients ask for it."""

from typing import Any

from runtime.protocol.description import PLATFORM
from runtime.protocol.messages import Message, ModelConfig
from runtime.protocol.model_config import BACKEND, ELEMENT_TYPES
from runtime.serving.model import ServedModel
from runtime.serving.options import Warmup, WarmupInput
from runtime.tensors import TensorSpec

_TYPE_NUMBERS = {dtype: number for number, dtype in ELEMENT_TYPES.items()}


def config_of(model: ServedModel) -> Message:
    """The `ModelConfig` that says how a model is served: what was chosen for it too, not only what was asked for."""
    options = model.options
    config = ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=model.max_batch,
        input=[_tensor(spec, model.max_batch) for spec in model.inputs],
        output=[_tensor(spec, model.max_batch) for spec in model.outputs],
        default_model_filename=model.path.name,
        model_warmup=[_warmup(model, warmup) for warmup in options.warmup],
    )
    _tell_device(config, model)
    policy = config.version_policy
    if options.versions.specific:
        policy.specific.versions.extend(int(version) for version in options.versions.specific)
    elif options.versions.latest is None:
        policy.all.SetInParent()
    else:
        policy.latest.num_versions = options.versions.latest
    if model.max_batch:
        batching = config.dynamic_batching
        batching.preferred_batch_size.extend(options.preferred_batches)
        batching.max_queue_delay_microseconds = _microseconds(options.max_delay)
        batching.default_queue_policy.max_queue_size = options.max_queue
        batching.default_queue_policy.default_timeout_microseconds = _microseconds(options.timeout or 0)
        batching.default_queue_policy.allow_timeout_override = True
    return config


def config_json(model: ServedModel) -> dict[str, Any]:
    """The same as JSON: names as in the `.proto` file, numbers as numbers, and what is unset at its default."""
    return as_json(config_of(model))


def as_json(message: Message) -> dict[str, Any]:
    """A message as JSON; a message within it only where it is set."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = {str(key): _value(field.message_type.fields[1], part) for key, part in value.items()}
        else:
            fields[field.name] = [_value(field, part) for part in value] if field.is_repeated else _value(field, value)
    return fields


def _tell_device(config: Message, model: ServedModel) -> None:
    options = model.options
    group = config.instance_group.add(name=f"{model.name}_0", count=options.instances)
    group.kind = group.Kind.Value("KIND_CPU" if model.device == "cpu" else "KIND_GPU")
    if options.device_id is not None:
        group.gpus.append(options.device_id)
    if options.threads is not None:
        config.parameters["intra_op_thread_count"].string_value = str(options.threads)
    if options.cuda_graph:
        config.optimization.cuda.graphs = True
    if model.device == "tensorrt":
        precision = {"precision_mode": "FP16" if options.fp16 else "FP32"}
        accelerators = config.optimization.execution_accelerators
        accelerators.gpu_execution_accelerator.add(name="tensorrt", parameters=precision)


def _value(field: Any, value: Any) -> Any:
    """One value of a field."""
    if field.message_type is not None:
        return as_json(value)
    return value if field.enum_type is None else field.enum_type.values_by_number[value].name


def _tensor(spec: TensorSpec, batched: int) -> dict[str, Any]:
    """An input or output, its batch left out of the dims where there is one."""
    dims = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "data_type": _TYPE_NUMBERS[spec.dtype], "dims": dims[1:] if batched else dims}


def _warmup(model: ServedModel, warmup: Warmup) -> dict[str, Any]:
    types = {spec.name: _TYPE_NUMBERS[spec.dtype] for spec in model.inputs}
    inputs = {name: _warmup_input(types[name], given) for name, given in warmup.inputs.items() if name in types}
    return {"name": warmup.name, "batch_size": warmup.batch, "inputs": inputs, "count": warmup.count}


def _warmup_input(number: int, given: WarmupInput) -> dict[str, Any]:
    data: dict[str, Any] = {"data_type": number, "dims": list(given.shape)}
    if isinstance(given.data, str):
        return {**data, f"{given.data}_data": True}
    return {**data, "input_data_file": given.data.name}


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
