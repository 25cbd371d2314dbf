"""Reading an inference request: its JSON, the bytes behind it, and the arrays in both."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from runtime.protocol.elements import LENGTH, from_raw, from_values
from runtime.protocol.parameters import Parameters, classes_of, refuse_shared_memory, timeout_of
from runtime.protocol.tensors import (
    check_complete,
    check_datatype,
    check_outputs,
    check_shape,
    invalid,
    known_input,
    listing,
    quoted,
    shaped,
    shown,
)
from runtime.server.rest.json_text import SHORT, check_size, read_json
from runtime.server.rest.number_lists import NumberList, read_numbers
from runtime.serving.model import ServedModel
from runtime.serving.refused import Refused
from runtime.serving.request import InferenceRequest
from runtime.tensors import TensorSpec


@dataclass(slots=True)
class OutputForm:
    """How an output is to be given.

    Attributes:
        binary: as bytes behind the JSON, rather than in it.
        classes: how many of its greatest values to give in its place, 0 for the output itself.
    """

    binary: bool
    classes: int = 0


@dataclass(slots=True)
class Question:
    """An inference request as REST has it.

    Attributes:
        inference: what is asked of the model.
        id: the client's own name for it, which the answer has too.
        binary: whether outputs are given as bytes where nothing else is said of them.
        forms: how outputs that are asked for by name are to be given.
    """

    inference: InferenceRequest
    id: str | None = None
    binary: bool = False
    forms: dict[str, OutputForm] = field(default_factory=dict)


def read_request(body: memoryview, json_size: int, model: ServedModel) -> Question:
    """Reads a request to a model, of which the first `json_size` bytes are JSON and the others tensors in order.

    Raises:
        Refused: INVALID, UNSUPPORTED or TOO_LARGE; the text names the field.
    """
    text = body[:json_size]
    check_size(text)
    numbers = read_numbers(text) if len(text) > SHORT else None
    if numbers is not None:
        # What is refused is read once more, in the way that has words for everything.
        with contextlib.suppress(Refused):
            return _question(numbers, body[json_size:], model)
    return _question(read_json(text), body[json_size:], model)


def _question(request: Any, raw: memoryview, model: ServedModel) -> Question:
    """The question in a request's JSON, with the tensors behind it; raises Refused."""
    if not isinstance(request, dict):
        raise invalid("the request is not a JSON object")
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise invalid("'id' is not a string")
    parameters = _parameters(request, "the request")
    binary = _flag(parameters, "binary_data_output", "the request")
    question = Question(InferenceRequest({}, timeout=timeout_of(parameters)), identity, binary)
    # As in other servers, an empty list of outputs asks for all of them.
    if request.get("outputs") not in (None, []):
        outputs = [(tensor["name"], _form(tensor, binary)) for tensor in _named(request, "outputs")]
        question.inference.outputs = tuple(name for name, _ in outputs)
        check_outputs(model.outputs, question.inference.outputs)
        question.forms = dict(outputs)
        _refuse_classes_of_texts(model.outputs, question.forms)
    question.inference.feeds = _feeds(request, raw, model)
    return question


def read_raw_request(body: memoryview, model: ServedModel) -> Question:
    """Reads a request that is nothing but the bytes of the model's only input, and asks for all outputs as bytes."""
    if len(model.inputs) != 1:
        names = listing(spec.name for spec in model.inputs)
        raise invalid(f"a raw request has one input, and the model has {len(model.inputs)}: {names}")
    spec = model.inputs[0]
    shape = _raw_shape(spec, len(body), bool(model.max_batch))
    raw = body if not spec.dtype.hasobject else b"".join((LENGTH.pack(len(body)), body))
    feed = from_raw(spec, shape, check_shape(spec, shape, bool(model.max_batch)), raw)
    return Question(InferenceRequest({spec.name: feed}), binary=True)


def _raw_shape(spec: TensorSpec, size: int, batched: bool) -> list[int]:
    """The shape of an input that is told by its number of bytes; text is one element, whatever its bytes are."""
    sizes = [size if isinstance(size, int) else None for size in spec.shape]
    free = [axis for axis, known in enumerate(sizes) if known is None]
    if batched and len(free) > 1:
        sizes[free.pop(0)] = 1
    if len(free) > 1:
        raise invalid(f"input '{spec.name}': the shape of {spec} can't be told from a raw request's {size} bytes")
    count = 1 if spec.dtype.hasobject else size // spec.dtype.itemsize
    others = prod(known for known in sizes if known is not None)
    return [count // max(others, 1) if known is None else known for known in sizes]


def _feeds(request: Parameters, raw: memoryview, model: ServedModel) -> dict[str, np.ndarray]:
    specs = {spec.name: spec for spec in model.inputs}
    batched = bool(model.max_batch)
    feeds: dict[str, np.ndarray] = {}
    for tensor in _named(request, "inputs"):
        spec = known_input(specs, tensor["name"], feeds)
        parameters = _parameters(tensor, f"input '{spec.name}'")
        check_datatype(spec, tensor.get("datatype"))
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not set(map(type, shape)) <= {int}:
            found = f"{shown(shape)}, not a list of whole numbers" if "shape" in tensor else "missing"
            raise invalid(f"input '{spec.name}': 'shape' is {found}")
        count = check_shape(spec, shape, batched)
        refuse_shared_memory(parameters, f"input '{spec.name}'")
        size = parameters.get("binary_data_size")
        if size is None:
            feeds[spec.name] = _from_json(spec, tensor, shape, count)
        else:
            part = _raw_part(spec, tensor, size, raw)
            raw = raw[len(part) :]
            feeds[spec.name] = from_raw(spec, shape, count, part)
    if raw:
        raise invalid(f"{len(raw)} bytes of the body are behind the JSON and belong to no input")
    check_complete(specs, feeds)
    return feeds


def _from_json(spec: TensorSpec, tensor: Parameters, shape: list[int], count: int) -> np.ndarray:
    data = tensor.get("data")
    if not isinstance(data, NumberList):
        return from_values(spec, shape, _values(spec, tensor, shape, count))
    array = data.packed(spec.dtype) if len(data) == count else None
    if array is None or len(array) != count:
        raise invalid(f"input '{spec.name}': 'data' isn't what its datatype and shape say")
    return shaped(spec, array, shape)


def _raw_part(spec: TensorSpec, tensor: Parameters, size: object, raw: memoryview) -> memoryview:
    """The bytes of one input, which are the next ones."""
    where = f"input '{spec.name}'"
    if "data" in tensor:
        raise invalid(f"{where} has 'data' and the parameter 'binary_data_size', one of which is too much")
    if type(size) is not int or size < 0:
        raise invalid(f"{where}: the parameter 'binary_data_size' is {shown(size)}, not a number of bytes")
    if size > len(raw):
        raise invalid(
            f"{where}: the parameter 'binary_data_size' is {size}, and {len(raw)} bytes are left behind the JSON"
        )
    return raw[:size]


def _values(spec: TensorSpec, tensor: Parameters, shape: list[int], count: int) -> list[Any]:
    """The elements in row-major order, from data that is flat or nested as its shape says."""
    where = f"input '{spec.name}'"
    data = tensor.get("data")
    if not isinstance(data, list):
        raise invalid(f"{where}: 'data' is {'not a list' if 'data' in tensor else 'missing'}")
    elements = data
    if data and isinstance(data[0], list):
        elements = [data]
        for size in shape:
            if not all(type(part) is list and len(part) == size for part in elements):
                raise invalid(f"{where}: 'data' is nested otherwise than its shape {shape} says")
            elements = list(chain.from_iterable(elements))
    if len(elements) != count:
        raise invalid(f"{where}: 'data' has {len(elements)} elements, but shape {shape} has {count}")
    return elements


def _form(tensor: Parameters, binary: bool) -> OutputForm:
    where = f"output {quoted(tensor['name'])}"
    parameters = _parameters(tensor, where)
    refuse_shared_memory(parameters, where)
    return OutputForm(_flag(parameters, "binary_data", where, binary), classes_of(parameters, where))


def _refuse_classes_of_texts(specs: Sequence[TensorSpec], forms: Mapping[str, OutputForm]) -> None:
    for spec in specs:
        if spec.dtype.hasobject and spec.name in forms and forms[spec.name].classes:
            raise invalid(f"output '{spec.name}' is BYTES, which the parameter 'classification' can't rank")


def _named(request: Parameters, key: str) -> list[dict[str, Any]]:
    """The list of objects under `key`, each of which has a name."""
    tensors = request.get(key)
    if not isinstance(tensors, list):
        raise invalid(f"'{key}' is {'not a list' if key in request else 'missing'}")
    for index, tensor in enumerate(tensors):
        if not isinstance(tensor, dict):
            raise invalid(f"{key}[{index}] is {shown(tensor)}, not an object")
        if not isinstance(tensor.get("name"), str):
            found = f"{shown(tensor['name'])}, not a string" if "name" in tensor else "missing"
            raise invalid(f"{key}[{index}]: 'name' is {found}")
    return tensors


def _parameters(holder: Parameters, where: str) -> Parameters:
    """The parameters of a request, an input or an output. Those that nobody knows are nobody's concern."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid(f"the parameters of {where} are not an object")
    return parameters


def _flag(parameters: Parameters, name: str, where: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"{where}: the parameter '{name}' is {shown(value)}, neither true nor false")
    return value
