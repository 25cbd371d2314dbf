"""A ``config.pbtxt`` in Triton's form: what it asks for becomes options, or is refused with its place and a reason."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from runtime.engine import MAX_THREADS
from runtime.errors import ModelError
from runtime.protocol.config_fields import check_fields
from runtime.protocol.config_text import ConfigText, read_config, read_json
from runtime.protocol.messages import DataType, Message, message_class
from runtime.serving.options import ModelOptions, Warmup, WarmupInput

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
FILE_NAME = "config.pbtxt"

_KINDS = message_class("inference.ModelInstanceGroup").Kind
_ACTIONS = message_class("inference.ModelQueuePolicy").TimeoutAction
_MICROSECONDS = 1e-6


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are served: the `latest` so many, or those in `specific`, or all where both are None."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def choose(self, versions: Iterable[int]) -> list[int]:
        """Those of `versions` that are served, in ascending order."""
        ordered = sorted(versions)
        if self.specific is not None:
            return [version for version in ordered if version in self.specific]
        return ordered if self.latest is None else ordered[-self.latest :]


@dataclass(frozen=True)
class ModelConfiguration:
    """What a model's configuration asks for.

    Attributes:
        config: the configuration as it was read.
        options: how the model is served.
        versions: which of its versions are served.
        filename: the model's file in a version's folder.
        labels: by the name of an output, the file in the model's folder that has its labels, a line each.
        warnings: fields that have no effect, with the reason.
    """

    config: ConfigText
    options: ModelOptions
    versions: VersionPolicy
    filename: str
    labels: Mapping[str, str]
    warnings: tuple[str, ...]


def read_configuration(path: Path, model: str, defaults: ModelOptions) -> ModelConfiguration:
    """Reads the ``config.pbtxt`` of `model`; what it says nothing of is as in `defaults`.

    Raises:
        ModelError: the file cannot be read, is no configuration, or asks for what cannot be done. The message has the
            line and column, the field and the reason.
    """
    return _configuration(read_config(path), path.parent, model, defaults)


def read_override(text: str, folder: Path, model: str, defaults: ModelOptions) -> ModelConfiguration:
    """The same for the JSON text that a load request carries in place of the file in the model's `folder`."""
    return _configuration(read_json(text, f"the 'config' of the request to load '{model}'"), folder, model, defaults)


def _configuration(config: ConfigText, folder: Path, model: str, defaults: ModelOptions) -> ModelConfiguration:
    warnings = check_fields(config)
    _check_identity(config, model)
    message = config.message
    instances, device = _instances(config, defaults)
    max_batch = _max_batch(config, defaults)
    batching = message.dynamic_batching
    policy = batching.default_queue_policy
    options = replace(
        defaults,
        device=device,
        threads=_threads(config, defaults),
        instances=instances,
        max_batch=max_batch,
        preferred_batches=_preferred_batches(config, max_batch),
        max_delay=batching.max_queue_delay_microseconds * _MICROSECONDS,
        max_queue=policy.max_queue_size or defaults.max_queue,
        timeout=_timeout(config, defaults),
        warmup=tuple(_warmup(config, nth, warmup, folder) for nth, warmup in enumerate(message.model_warmup)),
    )
    return ModelConfiguration(
        config,
        options,
        _versions(config),
        _file_name(config, "default_model_filename", message.default_model_filename) or "model.onnx",
        {
            output.name: _file_name(config, "output.label_filename", output.label_filename, nth)
            for nth, output in enumerate(message.output)
            if output.label_filename
        },
        warnings,
    )


def _check_identity(config: ConfigText, model: str) -> None:
    """Checks that the configuration is this model's, and that of an ONNX model."""
    message = config.message
    if message.name not in ("", model):
        raise config.error("name", f"is '{message.name}', but the model's folder is '{model}'", "give both one name")
    if message.platform not in ("", PLATFORM):
        raise config.error("platform", f"is '{message.platform}': only ONNX models are served", f"write '{PLATFORM}'")
    if message.backend not in ("", BACKEND):
        raise config.error("backend", f"is '{message.backend}': only ONNX models are served", f"write '{BACKEND}'")
    for kind, tensors in (("input", message.input), ("output", message.output)):
        for nth, tensor in enumerate(tensors):
            _check_tensor(config, kind, nth, tensor)


def _check_tensor(config: ConfigText, kind: str, nth: int, tensor: Message) -> None:
    """Checks what is said of an input or output as far as the model isn't needed for it."""
    if not tensor.name:
        raise config.error(kind, "has no name", "give it the name that the model has for it", nth)
    if tensor.data_type == DataType.values_by_name["TYPE_INVALID"].number:
        raise config.error(kind, f"'{tensor.name}' has no data_type", "write for example TYPE_FP32", nth)
    if bad := [size for size in tensor.dims if size < 1 and size != -1]:
        raise config.error(kind, f"'{tensor.name}' has {bad[0]} in its dims", "-1 stands for any size", nth)
    if kind == "input" and tensor.format and len(tensor.dims) != 3:
        raise config.error(kind, f"'{tensor.name}' has a format of images but not 3 dims", "take the format out", nth)


def _max_batch(config: ConfigText, defaults: ModelOptions) -> int:
    """The most rows in a batch. As in Triton, a file that says nothing of its inputs leaves the choice to the server."""
    message = config.message
    if message.max_batch_size < 0:
        raise config.error("max_batch_size", "is negative", "0 is no batching")
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
    return policy.default_timeout_microseconds * _MICROSECONDS or defaults.timeout


def _instances(config: ConfigText, defaults: ModelOptions) -> tuple[int, str]:
    """How many instances there are, and the device that they run on."""
    devices = {"KIND_AUTO": defaults.device, "KIND_CPU": "cpu", "KIND_GPU": "cuda"}
    groups = config.message.instance_group
    if not groups:
        return defaults.instances, defaults.device
    found = set()
    for nth, group in enumerate(groups):
        kind = _KINDS.Name(group.kind)
        if kind not in devices:
            raise config.error("instance_group.kind", f"{kind} is not supported", "write KIND_CPU or KIND_GPU", nth)
        if group.count < 0:
            raise config.error("instance_group.count", "is negative", "say how many instances run at once", nth)
        found.add(devices[kind])
    if len(found) > 1:
        raise config.error("instance_group", "has groups on several devices", "give all groups one kind", 1)
    return sum(max(group.count, 1) for group in groups), found.pop()


def _threads(config: ConfigText, defaults: ModelOptions) -> int | None:
    """The threads inside one operator. Triton's names of ONNX Runtime's options are the only parameters."""
    threads = defaults.threads
    for key, value in config.message.parameters.items():
        if key != "intra_op_thread_count":
            known = "the only one is 'intra_op_thread_count'"
            raise config.error("parameters", f"has '{key}', which is not supported; {known}", f"take '{key}' out")
        text = value.string_value
        if not (text.isascii() and text.isdigit() and int(text[:9]) <= MAX_THREADS and len(text) < 9):
            raise config.error("parameters", f"'{key}' is '{text}', not in 0…{MAX_THREADS}", "0 is one for each core")
        threads = int(text) or None
    return threads


def _versions(config: ConfigText) -> VersionPolicy:
    policy = config.message.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy(latest=None)
        case "specific":
            if bad := [version for version in policy.specific.versions if version < 1]:
                path = "version_policy.specific.versions"
                raise config.error(path, f"has {bad[0]}", "versions are numbers from 1 on")
            return VersionPolicy(latest=None, specific=frozenset(policy.specific.versions))
        case _:
            return VersionPolicy(latest=policy.latest.num_versions or 1)


def _warmup(config: ConfigText, nth: int, warmup: Message, folder: Path) -> Warmup:
    if not warmup.inputs:
        raise config.error("model_warmup", "has no inputs", "say the shape and data of every input", nth)
    inputs = {name: _warmup_input(config, nth, name, given, folder) for name, given in sorted(warmup.inputs.items())}
    return Warmup(warmup.name, inputs, max(warmup.batch_size, 1), max(warmup.count, 1))


def _warmup_input(config: ConfigText, nth: int, name: str, given: Message, folder: Path) -> WarmupInput:
    if bad := [size for size in given.dims if size < 1]:
        raise config.error("model_warmup", f"input '{name}' has {bad[0]} in its dims", "a run has sizes above 0", nth)
    match given.WhichOneof("input_data_type"):
        case "input_data_file":
            file = _file_name(config, "model_warmup", given.input_data_file, nth)
            return WarmupInput(tuple(given.dims), folder / "warmup" / file)
        case "zero_data":
            return WarmupInput(tuple(given.dims), "zero")
        case "random_data":
            return WarmupInput(tuple(given.dims), "random")
        case _:
            raise config.error("model_warmup", f"input '{name}' has no data", "write random_data: true", nth)


def _file_name(config: ConfigText, path: str, name: str, nth: int = 0) -> str:
    """`name`, which is that of a file in a known folder and leads nowhere else."""
    if name and (name != PurePath(name).name or name in (".", "..") or "\\" in name or "\0" in name):
        raise config.error(path, f"is '{name}', a path out of its folder", "write the plain name of a file", nth)
    return name
