"""The parameters that requests carry, whatever the protocol: those that are honoured, and those that are refused.

A parameter that nobody knows is nobody's concern in an inference. In a request to load a model it is refused, since the
model would then be served otherwise than it was asked for.
"""

from collections.abc import Collection, Mapping
from typing import Any

from runtime.protocol.tensors import invalid, quoted, shown
from runtime.serving.refused import Reason, Refused

Parameters = Mapping[str, Any]

_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
# What clients send for a priority or a sequence that they don't ask for; False is 0 here.
_UNSET = (0, "", "0")


def timeout_of(parameters: Parameters) -> float | None:
    """The seconds that a request may wait; 0 and none leave it to the model.

    Raises:
        Refused: it is no number of microseconds, or the request asks for a priority or belongs to a sequence.
    """
    if not parameters:
        return None
    if parameters.get("priority", 0) not in _UNSET:
        raise Refused(Reason.UNSUPPORTED, "the parameter 'priority': requests are answered in the order they come in")
    if any(parameters.get(name, 0) not in _UNSET for name in _SEQUENCE):
        raise Refused(Reason.UNSUPPORTED, "the parameter 'sequence_id': models here have no state between requests")
    microseconds = parameters.get("timeout", 0)
    if type(microseconds) is not int or not 0 <= microseconds < 2**63:
        raise invalid(f"the parameter 'timeout' is {shown(microseconds)}, not a number of microseconds")
    return microseconds / 1e6 if microseconds else None


def classes_of(parameters: Parameters, where: str) -> int:
    """How many of an output's greatest values are asked for in its place; 0 for the output itself."""
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise invalid(f"{where}: the parameter 'classification' is {shown(classes)}, not a number of classes")
    return classes


def refuse_shared_memory(parameters: Parameters, where: str) -> None:
    """Refuses a tensor that is said to be in shared memory."""
    for name in _SHARED_MEMORY:
        if name in parameters:
            raise Refused(Reason.UNSUPPORTED, f"{where}: the parameter '{name}': there is no shared memory here")


def load_config(parameters: Parameters) -> str | None:
    """The configuration that a request to load a model brings, as JSON text."""
    _refuse_others(parameters, ("config",))
    config = parameters.get("config")
    if config is not None and not isinstance(config, str):
        raise invalid("the parameter 'config' is not a string of JSON")
    return config


def check_unload(parameters: Parameters) -> None:
    """Refuses what a request to unload a model can't say. Nothing depends on a model, so both answers are honoured."""
    _refuse_others(parameters, ("unload_dependents",))
    if not isinstance(parameters.get("unload_dependents", False), bool):
        raise invalid("the parameter 'unload_dependents' is neither true nor false")


def _refuse_others(parameters: Parameters, known: Collection[str]) -> None:
    for name in parameters:
        if name.startswith("file:"):
            raise Refused(Reason.UNSUPPORTED, f"the parameter {quoted(name)}: models come from the repository alone")
        if name not in known:
            raise invalid(f"there is no parameter {quoted(name)}; there is {', '.join(known)}")
