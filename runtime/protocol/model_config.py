"""A ``config.pbtxt`` in Triton's form: what it asks for becomes options, or is refused with its place and a reason."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from runtime.engine_options import MAX_SECONDS
from runtime.errors import DeviceError, ModelError
from runtime.model_path import is_stream
from runtime.protocol.config_device import device_fields
from runtime.protocol.config_fields import check_fields
from runtime.protocol.config_text import ConfigText, parse_config, parse_json
from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.description import PLATFORM
from runtime.protocol.messages import DataType, Message, message_class
from runtime.serving.options import MAX_BATCH, MAX_QUEUE, ModelOptions, VersionPolicy, Warmup, WarmupInput
from runtime.tensors import TensorSpec

BACKEND = "onnxruntime"

# The types of elements, by their numbers in a configuration.
TYPE_NAMES = {"BYTES": "TYPE_STRING"}
ELEMENT_TYPES = {
    DataType.values_by_name[TYPE_NAMES.get(name, f"TYPE_{name}")].number: dtype for dtype, name in DATATYPES.items()
}

_ACTIONS = message_class("inference.ModelQueuePolicy").TimeoutAction
_PER_SECOND = 1e6  # microseconds


def read_config(path: Path, defaults: ModelOptions) -> ModelOptions:
    """Reads the ``config.pbtxt`` in a model's folder; what it says nothing of is as in `defaults`.

    Raises:
        ModelError: the file cannot be read, is no configuration, or asks for what cannot be done. The message has the
            line and column, the field and the reason.
    """
    return _options(parse_config(path), path.parent.name, path.parent, defaults)


def read_override(model: str, text: str, defaults: ModelOptions) -> ModelOptions:
    """Reads the JSON that a request to load `model` carries in place of the file; it may name no files.

    Raises:
        ModelError: as for a file; the message names the field and the reason.
    """
    return _options(parse_json(text, "the request's 'config'"), model, None, defaults)


def _options(config: ConfigText, model: str, folder: Path | None, defaults: ModelOptions) -> ModelOptions:
    """What the configuration of `model` asks for; `folder` is where its files are, None where it may have none."""
    warnings = check_fields(config)
    _check_identity(config, model)
    message = config.message
    max_batch = _max_batch(config, defaults)
    batching = message.dynamic_batching
    asked: dict[str, Any] = dict(
        max_batch=max_batch,
        insist_on_batching=message.max_batch_size > 1,
        preferred_batches=_preferred_batches(config, max_batch),
        max_delay=_seconds(config, "max_queue_delay_microseconds", batching.max_queue_delay_microseconds)
        or defaults.max_delay,
        max_queue=_max_queue(config, defaults),
        timeout=_timeout(config, defaults),
        warmup=_warmups(config, folder, max_batch),
        versions=_versions(config),
        file=_file_name(config, "default_model_filename", message.default_model_filename) or defaults.file,
        inputs=_tensors(config, "input", message.input),
        outputs=_tensors(config, "output", message.output),
        labels={
            output.name: _labels(config, nth, output.label_filename, folder)
            for nth, output in enumerate(message.output)
            if output.label_filename
        },
        warnings=warnings,
        **device_fields(config, defaults),
    )
    try:
        return replace(defaults, **asked)
    except DeviceError as error:
        raise ModelError(f"{config.source}: {error.message}", error.help) from None


def _check_identity(config: ConfigText, model: str) -> None:
    """Checks that the configuration is this model's, and that of an ONNX model."""
    message = config.message
    if message.name not in ("", model):
        raise config.error("name", f"is '{message.name}', but the model's folder is '{model}'", "give both one name")
    if message.platform not in ("", PLATFORM):
        raise config.error("platform", f"is '{message.platform}': only ONNX models are served", f"write '{PLATFORM}'")
    if message.backend not in ("", BACKEND):
        raise config.error("backend", f"is '{message.backend}': only ONNX models are served", f"write '{BACKEND}'")


def _tensors(config: ConfigText, kind: str, tensors: Sequence[Message]) -> tuple[TensorSpec, ...]:
    """The declared inputs or outputs, with the batch in front of the dims where there is one."""
    batch = (None,) if config.message.max_batch_size else ()
    specs: dict[str, TensorSpec] = {}
    for nth, tensor in enumerate(tensors):
        if not tensor.name:
            raise config.error(kind, "has no name", "give it the name that the model has for it", nth)
        if tensor.name in specs:
            raise config.error(kind, f"'{tensor.name}' is declared twice", "take one out", nth)
        if tensor.data_type not in ELEMENT_TYPES:
            raise config.error(kind, f"'{tensor.name}' has no data_type of ONNX's", "write for example TYPE_FP32", nth)
        if bad := [size for size in tensor.dims if size < 1 and size != -1]:
            raise config.error(kind, f"'{tensor.name}' has {bad[0]} in its dims", "-1 stands for any size", nth)
        if kind == "input" and tensor.format and len(tensor.dims) != 3:
            raise config.error(kind, f"'{tensor.name}' has the format of an image but not 3 dims", None, nth)
        shape = (*batch, *(None if size == -1 else size for size in tensor.dims))
        specs[tensor.name] = TensorSpec(tensor.name, ELEMENT_TYPES[tensor.data_type], shape)
    return tuple(specs.values())


def _max_batch(config: ConfigText, defaults: ModelOptions) -> int:
    """The most rows in a batch. As in Triton, a file that declares no inputs leaves the choice to the server."""
    message = config.message
    if message.max_batch_size < 0:
        raise config.error("max_batch_size", "is negative", "0 is no batching")
    if message.max_batch_size > MAX_BATCH:
        raise config.error("max_batch_size", f"is {message.max_batch_size}", f"{MAX_BATCH} is the most")
    if message.max_batch_size:
        return int(message.max_batch_size)
    if message.HasField("dynamic_batching"):
        raise config.error("dynamic_batching", "needs a max_batch_size above 0", "say how many rows a batch may have")
    return 1 if message.input else defaults.max_batch


def _preferred_batches(config: ConfigText, max_batch: int) -> tuple[int, ...]:
    sizes = tuple(config.message.dynamic_batching.preferred_batch_size)
    for size in sizes:
        if not 1 <= size <= max_batch:
            path = "dynamic_batching.preferred_batch_size"
            raise config.error(path, f"has {size}, which is not in 1…{max_batch}", "max_batch_size is the bound")
    return sizes


def _timeout(config: ConfigText, defaults: ModelOptions) -> float | None:
    """The seconds that a request may wait; after them it is refused, never put off."""
    policy = config.message.dynamic_batching.default_queue_policy
    if policy.timeout_action == _ACTIONS.Value("DELAY"):
        path = "dynamic_batching.default_queue_policy.timeout_action"
        raise config.error(path, "DELAY is not supported: a request that waited too long is refused", "write REJECT")
    asked = policy.default_timeout_microseconds
    return _seconds(config, "default_queue_policy.default_timeout_microseconds", asked) or defaults.timeout


def _max_queue(config: ConfigText, defaults: ModelOptions) -> int:
    size = int(config.message.dynamic_batching.default_queue_policy.max_queue_size)
    if size > MAX_QUEUE:
        path = "dynamic_batching.default_queue_policy.max_queue_size"
        raise config.error(path, f"is {size}", f"{MAX_QUEUE} is the most")
    return size or defaults.max_queue


def _seconds(config: ConfigText, field: str, microseconds: int) -> float:
    """A time in a field of the batching."""
    seconds = microseconds / _PER_SECOND
    if seconds > MAX_SECONDS:
        why = f"is {seconds:g} s, longer than a day"
        raise config.error(f"dynamic_batching.{field}", why, "the unit is microseconds")
    return seconds


def _versions(config: ConfigText) -> VersionPolicy:
    policy = config.message.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy(latest=None)
        case "specific":
            if bad := [version for version in policy.specific.versions if version < 1]:
                path = "version_policy.specific.versions"
                raise config.error(path, f"has {bad[0]}", "versions are numbers from 1 on")
            if not policy.specific.versions:
                raise config.error("version_policy.specific", "names no versions", "name those to serve")
            return VersionPolicy(latest=None, specific=tuple(str(version) for version in policy.specific.versions))
        case _:
            return VersionPolicy(latest=policy.latest.num_versions or 1)


def _warmups(config: ConfigText, folder: Path | None, max_batch: int) -> tuple[Warmup, ...]:
    warmups = config.message.model_warmup
    for nth, warmup in enumerate(warmups):
        if warmup.batch_size > max_batch:
            why = f"has a batch_size of {warmup.batch_size}, but {max_batch} is the most rows of a batch"
            raise config.error("model_warmup", why, "max_batch_size is the bound", nth)
    return tuple(_warmup(config, nth, warmup, folder) for nth, warmup in enumerate(warmups))


def _warmup(config: ConfigText, nth: int, warmup: Message, folder: Path | None) -> Warmup:
    if not warmup.inputs:
        raise config.error("model_warmup", "has no inputs", "say the shape and data of every input", nth)
    inputs = {name: _warmup_input(config, nth, name, given, folder) for name, given in sorted(warmup.inputs.items())}
    return Warmup(warmup.name, inputs, max(warmup.batch_size, 1), max(warmup.count, 1))


def _warmup_input(config: ConfigText, nth: int, name: str, given: Message, folder: Path | None) -> WarmupInput:
    declared = {spec.name: spec for spec in _tensors(config, "input", config.message.input)}
    dtype = ELEMENT_TYPES.get(given.data_type)
    if name in declared and dtype != declared[name].dtype:
        raise config.error("model_warmup", f"input '{name}' has another data_type than the input", None, nth)
    if bad := [size for size in given.dims if size < 1]:
        raise config.error("model_warmup", f"input '{name}' has {bad[0]} in its dims", "a run has sizes above 0", nth)
    shape = tuple(given.dims)
    match given.WhichOneof("input_data_type"):
        case "input_data_file":
            return WarmupInput(shape, _file(config, "model_warmup", nth, given.input_data_file, folder, "warmup"))
        case "zero_data":
            return WarmupInput(shape, "zero")
        case "random_data":
            return WarmupInput(shape, "random")
        case _:
            raise config.error("model_warmup", f"input '{name}' has no data", "write random_data: true", nth)


def _labels(config: ConfigText, nth: int, name: str, folder: Path | None) -> tuple[str, ...]:
    """The lines of the file of labels."""
    file = _file(config, "output.label_filename", nth, name, folder)
    try:
        return tuple(file.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise config.error("output.label_filename", f"can't be read: {file}: {reason}", None, nth) from None


def _file(config: ConfigText, path: str, nth: int, name: str, folder: Path | None, *within: str) -> Path:
    """A file that the configuration names; one that came with a request may name none."""
    if folder is None:
        raise config.error(path, f"names the file '{name}'; a request to load a model may name none", None, nth)
    file = folder.joinpath(*within, _file_name(config, path, name, nth))
    if is_stream(file):
        raise config.error(path, f"names the file '{name}', which is not a regular one", None, nth)
    return file


def _file_name(config: ConfigText, path: str, name: str, nth: int = 0) -> str:
    """`name`, which is that of a file in a known folder and leads nowhere else."""
    if name and (name != PurePath(name).name or name in (".", "..") or set(name) & set("\\:\0")):
        raise config.error(path, f"is '{name}', which is no plain name of a file", "name a file in its folder", nth)
    return name
