"""Reading an inference request: its JSON, and the arrays in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import orjson

from runtime.errors import InputError
from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.elements import VALUES as JSON_TYPES
from runtime.tensors import TensorSpec, type_name

# The most dimensions that every NumPy takes. Without a bound, a model of unsaid rank could be sent millions of them.
MAX_RANK = 32
BINARY = frozenset({"binary_data", "binary_data_size", "binary_data_output"})


@dataclass(frozen=True)
class InferRequest:
    """What a client asks for: its own id for the request, the inputs, and the outputs by name (None for all)."""

    id: str | None
    feeds: dict[str, np.ndarray]
    outputs: list[str] | None


def read_request(body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
    """Reads a request to a model with these inputs.

    Raises:
        InputError: the body is not a request, or has an input, datatype or shape that the model does not take.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise InputError("the request is not a JSON object")
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InputError("'id' is not a string")
    _check_parameters(request, "the request")
    specs = {spec.name: spec for spec in inputs}
    feeds: dict[str, np.ndarray] = {}
    for tensor in _named(request, "inputs"):
        name = tensor["name"]
        if name not in specs:
            known = ", ".join(f"'{known}'" for known in specs)
            raise InputError(f"the model has no input '{name}'; it has {known}")
        if name in feeds:
            raise InputError(f"input '{name}' is given twice")
        feeds[name] = _array(tensor, specs[name])
    # As in other servers, an empty list of outputs asks for all of them.
    outputs = [tensor["name"] for tensor in _named(request, "outputs")] if request.get("outputs") else None
    return InferRequest(identity, feeds, outputs)


def _named(request: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under `key`, each of which has a name."""
    tensors = request.get(key)
    if not isinstance(tensors, list):
        raise InputError(f"'{key}' is {'not a list' if key in request else 'missing'}")
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise InputError(f"'{key}' holds something that is not an object with a name")
        _check_parameters(tensor, f"'{tensor['name']}'")
    return tensors


def _check_parameters(holder: Mapping[str, Any], where: str) -> None:
    parameters = holder.get("parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise InputError(f"the parameters of {where} are not an object")
    # `false` asks for JSON, which is what comes.
    if asked := [key for key in sorted(BINARY & parameters.keys()) if parameters[key] is not False]:
        raise InputError(f"{where} has the parameter '{asked[0]}': binary tensors are not supported yet")


def _array(tensor: Mapping[str, Any], spec: TensorSpec) -> np.ndarray:
    """The array in an input tensor, of the model's element type and a shape that fits the model."""
    where = f"input '{spec.name}'"
    expected = DATATYPES[spec.dtype]
    if tensor.get("datatype") != expected:
        raise InputError(f"{where}: the model expects {expected}, given {_shown(tensor.get('datatype'))}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise InputError(f"{where}: 'shape' is not a list of sizes")
    if len(shape) > MAX_RANK:
        raise InputError(f"{where}: 'shape' has {len(shape)} dimensions, more than {MAX_RANK}")
    if not spec.fits(shape):
        raise InputError(f"{where}: the model expects {spec}, given {type_name(spec.dtype)} {shape}")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise InputError(f"{where}: 'data' is {'not a list' if 'data' in tensor else 'missing'}")
    elements = _flat(where, data, shape)
    allowed, wanted = JSON_TYPES[spec.dtype.kind]
    if strange := set(map(type, elements)) - allowed:
        found = next(element for element in elements if type(element) in strange)
        raise InputError(f"{where}: {expected} takes {wanted}, given {_shown(found)}")
    array = _converted(where, elements, spec.dtype)
    try:
        return array.reshape(shape)
    except ValueError:  # even an array without elements has a largest product of its other sizes
        raise InputError(f"{where}: shape {shape} is too large") from None


def _flat(where: str, data: list[Any], shape: list[int]) -> list[Any]:
    """The elements in row-major order, from data that is flat or nested as its shape says."""
    count = prod(shape)
    if data and isinstance(data[0], list):
        elements: list[Any] = [data]
        for size in shape:
            if not all(type(part) is list and len(part) == size for part in elements):
                raise InputError(f"{where}: 'data' is nested otherwise than its shape {shape} says")
            elements = list(chain.from_iterable(elements))
    else:
        elements = data
    if len(elements) != count:
        raise InputError(f"{where}: 'data' has {len(elements)} elements, but shape {shape} has {count}")
    return elements


def _converted(where: str, elements: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
    """The elements as an array [count]; what its type cannot hold is refused, never wrapped or made infinite."""
    try:
        with np.errstate(over="ignore"):
            array = np.array(elements, dtype=dtype)
    except OverflowError:
        fits = False
    else:
        fits = dtype.kind != "f" or bool(np.isfinite(array).all())
    if not fits:
        raise InputError(f"{where}: 'data' holds a number that {DATATYPES[dtype]} cannot hold")
    return array


def _shown(value: object) -> str:
    """A JSON value in a message, cut short."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}…"
