"""What a request has to be for a model to take it, whatever the protocol: names, datatypes, shapes, outputs.

Every check raises `Refused` with `Reason.INVALID` and a text that names the field.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod

import numpy as np
import orjson

from runtime.protocol.datatypes import DATATYPES
from runtime.serving.refused import Reason, Refused
from runtime.tensors import TensorSpec, type_name

# The most dimensions that every NumPy takes. Without a bound, a model of unsaid rank could be sent millions of them.
MAX_RANK = 32


def invalid(message: str) -> Refused:
    """The refusal of a request that is wrong."""
    return Refused(Reason.INVALID, message)


def known_input(specs: Mapping[str, TensorSpec], name: str, given: Collection[str]) -> TensorSpec:
    """The input that a request calls `name`, where it is one of `specs` and not among those already `given`."""
    spec = specs.get(name)
    if spec is None:
        raise invalid(f"the model has no input {quoted(name)}; it has {listing(specs)}")
    if name in given:
        raise invalid(f"input '{name}' is given twice")
    return spec


def check_datatype(spec: TensorSpec, datatype: object) -> None:
    """Refuses an input of another datatype than the model's."""
    expected = DATATYPES[spec.dtype]
    if datatype != expected:
        raise invalid(f"input '{spec.name}': the model expects datatype {expected}, given {shown(datatype)}")


def check_shape(spec: TensorSpec, shape: Sequence[int], batched: bool) -> int:
    """Refuses a shape that the model does not take, and where it is `batched` one without rows.

    Returns:
        The number of elements.
    """
    where = f"input '{spec.name}'"
    if len(shape) > MAX_RANK:
        raise invalid(f"{where}: 'shape' has {len(shape)} dimensions, more than {MAX_RANK}")
    if shape and min(shape) < 0:
        raise invalid(f"{where}: 'shape' has the size {min(shape)}, which is negative")
    if shape and max(shape) >= 2**31:
        raise invalid(f"{where}: 'shape' has the size {max(shape)}, more than {2**31 - 1}")
    if not spec.fits(shape):
        raise invalid(f"{where}: the model expects {spec}, given {type_name(spec.dtype)} {list(shape)}")
    if batched and shape and not shape[0]:
        raise invalid(f"{where}: shape {list(shape)} is an empty batch, which has no result")
    return prod(shape)


def check_complete(specs: Mapping[str, TensorSpec], given: Collection[str]) -> None:
    """Refuses a request without some of the model's inputs."""
    if len(given) == len(specs):  # each of them is one of `specs`, and none is given twice
        return
    name, spec = next((name, spec) for name, spec in specs.items() if name not in given)
    raise invalid(f"input '{name}' is missing; the model expects {spec}")


def check_outputs(specs: Sequence[TensorSpec], names: Sequence[str]) -> None:
    """Refuses outputs that the model has not, or that are asked for twice."""
    known = {spec.name for spec in specs}
    for name in names:
        if name not in known:
            raise invalid(f"the model has no output {quoted(name)}; it has {listing(spec.name for spec in specs)}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise invalid(f"output '{twice}' is asked for twice")


def shaped(spec: TensorSpec, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The elements [count] in a shape of as many elements."""
    try:
        return array.reshape(shape)
    except ValueError:  # even an array without elements has a largest product of its other sizes
        raise invalid(f"input '{spec.name}': shape {list(shape)} is too large") from None


def listing(names: Iterable[str]) -> str:
    """Names in a message: ``'a', 'b'``."""
    return ", ".join(f"'{name}'" for name in names)


def quoted(name: str) -> str:
    """A client's own word in a message, cut short."""
    return f"'{name}'" if len(name) <= 40 else f"'{name[:37]}…'"


def shown(value: object) -> str:
    """A value of a request in a message, as JSON, cut short."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
