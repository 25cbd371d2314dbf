"""The device that a configuration asks for: its instance groups, its optimisations and its parameters."""

from collections.abc import Sequence
from typing import Any

from runtime.engine_options import GOES_WITH, MAX_THREADS, Device
from runtime.protocol.config_text import ConfigText
from runtime.protocol.messages import Message, message_class
from runtime.serving.options import ModelOptions

_KINDS = message_class("inference.ModelInstanceGroup").Kind
_GPU = "optimization.execution_accelerators.gpu_execution_accelerator"


def device_fields(config: ConfigText, defaults: ModelOptions) -> dict[str, Any]:
    """The fields of `EngineOptions` that the configuration asks for, and those that it takes back.

    Raises:
        ModelError: a value has no meaning, or is not done here.
    """
    message = config.message
    device = _device(config, message.instance_group, defaults)
    asked: dict[str, Any] = {"threads": _threads(config, defaults)}
    if message.instance_group:
        asked["instances"] = _count(config, message.instance_group)
    if gpus := sorted({gpu for group in message.instance_group for gpu in group.gpus}):
        if len(gpus) > 1:
            raise config.error("instance_group.gpus", "names several GPUs: a model runs on one", "name one")
        if device == "cpu":
            raise config.error("instance_group.gpus", "names a GPU for a model on the CPU", "write kind: KIND_GPU")
        asked["device_id"] = gpus[0]
    if accelerators := message.optimization.execution_accelerators.gpu_execution_accelerator:
        if any(group.kind == _KINDS.Value("KIND_CPU") for group in message.instance_group):
            raise config.error(_GPU, "is for models on a GPU", "give its group KIND_GPU")
        asked["fp16"] = _is_half(config, accelerators)
        device = "tensorrt"
    if message.optimization.cuda.graphs:
        if device in ("cpu", "auto"):
            raise config.error("optimization.cuda.graphs", "is for models on a GPU", "give its group KIND_GPU")
        asked["cuda_graph"] = True
    # Options of the server for other models: those that a device has no use for don't hold for a model on it.
    taken_back = {name: getattr(ModelOptions, name) for name, devices in GOES_WITH.items() if device not in devices}
    return {**taken_back, **asked, "device": device}


def _device(config: ConfigText, groups: Sequence[Message], defaults: ModelOptions) -> Device:
    on_gpu: Device = "tensorrt" if defaults.device == "tensorrt" else "cuda"
    devices: dict[str, Device] = {"KIND_AUTO": defaults.device, "KIND_CPU": "cpu", "KIND_GPU": on_gpu}
    found: list[Device] = []
    for nth, group in enumerate(groups):
        kind = _KINDS.Name(group.kind)
        if kind not in devices:
            raise config.error("instance_group.kind", f"{kind} is not supported", "write KIND_CPU or KIND_GPU", nth)
        found.append(on_gpu if kind == "KIND_AUTO" and group.gpus else devices[kind])
        if found[nth] != found[0]:
            raise config.error("instance_group", "has groups on several devices", "give all groups one kind", nth)
    return found[0] if found else defaults.device


def _count(config: ConfigText, groups: Sequence[Message]) -> int:
    for nth, group in enumerate(groups):
        if group.count < 0:
            raise config.error("instance_group.count", "is negative", "say how many instances run at once", nth)
    count: int = sum(max(group.count, 1) for group in groups)
    if count > MAX_THREADS:
        raise config.error("instance_group.count", f"comes to {count} instances", f"{MAX_THREADS} are the most")
    return count


def _threads(config: ConfigText, defaults: ModelOptions) -> int | None:
    """The threads of one run. Triton's names of ONNX Runtime's options are the only parameters."""
    threads = defaults.threads
    for key, value in config.message.parameters.items():
        if key != "intra_op_thread_count":
            known = "the only one is 'intra_op_thread_count'"
            raise config.error("parameters", f"has '{key}', which is not supported; {known}", f"take '{key}' out")
        text = value.string_value
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MAX_THREADS):
            raise config.error(
                "parameters", f"'{key}' is '{text}', not in 0…{MAX_THREADS}", "0 leaves it to the server"
            )
        threads = int(text) or None
    return threads


def _is_half(config: ConfigText, accelerators: Sequence[Message]) -> bool:
    """Whether TensorRT, which is the only accelerator, may compute in half precision."""
    precision = "FP32"
    for nth, accelerator in enumerate(accelerators):
        if accelerator.name != "tensorrt":
            raise config.error(
                _GPU, f"is '{accelerator.name}', which is not supported", "the only one is tensorrt", nth
            )
        for key, value in accelerator.parameters.items():
            if key != "precision_mode" or value not in ("FP16", "FP32"):
                why = f"has the parameter '{key}': '{value}', which is not supported"
                raise config.error(_GPU, why, "the only one is precision_mode, FP16 or FP32", nth)
            precision = value
    return precision == "FP16"
