"""Reading an inference request, and writing its answer, as gRPC has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtime.protocol.classification import in_classes
from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.elements import from_raw, text_of, to_raw
from runtime.protocol.messages import Message, ModelInferResponse
from runtime.protocol.parameters import classes_of, refuse_shared_memory, timeout_of
from runtime.protocol.tensors import (
    check_complete,
    check_datatype,
    check_outputs,
    check_shape,
    invalid,
    known_input,
    shaped,
    shown,
)
from runtime.serving.model import ServedModel
from runtime.serving.request import InferenceRequest, InferenceResult
from runtime.tensors import TensorSpec

# The field of InferTensorContents that has the elements of each datatype, and its type. FP16 has none.
CONTENTS: dict[str, tuple[str, type[Any]]] = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int32),
    "INT16": ("int_contents", np.int32),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint32),
    "UINT16": ("uint_contents", np.uint32),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", np.object_),
}


@dataclass(frozen=True, slots=True)
class Question:
    """An inference request as gRPC has it.

    Attributes:
        inference: what is asked of the model.
        id: the client's own name for it, which the answer has too.
        classes: by output, how many of its greatest values to give in its place.
    """

    inference: InferenceRequest
    id: str
    classes: Mapping[str, int] = field(default_factory=dict)


def read_request(message: Message, model: ServedModel) -> Question:
    """Reads a `ModelInferRequest` to a model.

    Raises:
        Refused: INVALID or UNSUPPORTED; the text names the field.
    """
    outputs = tuple(output.name for output in message.outputs)
    check_outputs(model.outputs, outputs)
    texts = {spec.name for spec in model.outputs if spec.dtype.hasobject}
    classes = {}
    for output in message.outputs:
        asked = values_of(output.parameters)
        refuse_shared_memory(asked, f"output '{output.name}'")
        if count := classes_of(asked, f"output '{output.name}'"):
            classes[output.name] = count
            if output.name in texts:
                raise invalid(f"output '{output.name}' is BYTES, which the parameter 'classification' can't rank")
    inference = InferenceRequest(_feeds(message, model), outputs, timeout_of(values_of(message.parameters)))
    return Question(inference, message.id, classes)


def values_of(parameters: Mapping[str, Message]) -> dict[str, Any]:
    """Parameters as plain values; None for one that has no value."""
    choices = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: choice and getattr(parameters[name], choice) for name, choice in choices.items()}


def _feeds(message: Message, model: ServedModel) -> dict[str, np.ndarray]:
    specs = {spec.name: spec for spec in model.inputs}
    batched = bool(model.max_batch)
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise invalid(f"'raw_input_contents' has {len(raws)} tensors, and 'inputs' has {len(message.inputs)}")
    feeds: dict[str, np.ndarray] = {}
    for nth, tensor in enumerate(message.inputs):
        spec = known_input(specs, tensor.name, feeds)
        refuse_shared_memory(values_of(tensor.parameters), f"input '{spec.name}'")
        check_datatype(spec, tensor.datatype)
        shape = list(tensor.shape)
        count = check_shape(spec, shape, batched)
        if not raws:
            feeds[spec.name] = _typed(spec, shape, count, tensor.contents)
        elif tensor.contents.ListFields():
            raise invalid(f"input '{spec.name}' has 'contents' beside 'raw_input_contents', one of which is too much")
        else:
            feeds[spec.name] = from_raw(spec, shape, count, raws[nth])
    check_complete(specs, feeds)
    return feeds


def _typed(spec: TensorSpec, shape: Sequence[int], count: int, contents: Message) -> np.ndarray:
    """An input whose elements are in the field of its datatype."""
    where = f"input '{spec.name}'"
    datatype = DATATYPES[spec.dtype]
    if datatype not in CONTENTS:
        raise invalid(f"{where}: {datatype} has no field in 'contents'; it is sent in 'raw_input_contents'")
    name, dtype = CONTENTS[datatype]
    for other, _ in contents.ListFields():
        if other.name != name:
            raise invalid(f"{where}: the elements are in '{other.name}'; those of {datatype} belong in '{name}'")
    elements = getattr(contents, name)
    if len(elements) != count:
        raise invalid(f"{where}: '{name}' has {len(elements)} elements, but shape {list(shape)} has {count}")
    if spec.dtype.hasobject:
        array = np.empty(count, object)
        array[:] = [text_of(spec, index, element) for index, element in enumerate(elements)]
        return shaped(spec, array, shape)
    array = np.array(elements, dtype)
    fitting = array.astype(spec.dtype)
    if fitting.dtype != dtype and (wrong := np.flatnonzero(fitting != array)).size:
        raise invalid(f"{where}: '{name}' holds {shown(int(array[wrong[0]]))}, which {datatype} cannot hold")
    return shaped(spec, fitting, shape)


def write_answer(model: ServedModel, question: Question, result: InferenceResult) -> Message:
    """The answer to a request: its tensors are always in `raw_output_contents`, the one place where all clients look.

    Raises:
        Refused: INVALID where an output has nothing to rank.
    """
    answer = ModelInferResponse(model_name=model.name, model_version=model.version, id=question.id)
    for name, array in result.outputs.items():
        if count := question.classes.get(name):
            array = in_classes(model, name, array, count)
        answer.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        answer.raw_output_contents.append(bytes(to_raw(array)))
    return answer
