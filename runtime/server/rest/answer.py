"""Writing the answer to an inference request."""

from typing import Any

import numpy as np
import orjson

from runtime.protocol.classification import in_classes
from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.elements import Buffer, to_raw
from runtime.server.rest.replies import Reply
from runtime.server.rest.request import OutputForm, Question
from runtime.serving.model import ServedModel
from runtime.serving.request import InferenceResult

BINARY = (b"content-type", b"application/octet-stream")


def write_answer(model: ServedModel, question: Question, result: InferenceResult) -> Reply:
    """The answer: JSON, followed by the outputs that are given as bytes.

    JSON has no NaN and no infinity: both become null there, which clients that read the data into NumPy find as NaN.
    """
    answer: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if question.id is not None:
        answer["id"] = question.id
    raws: list[Buffer] = []
    default = OutputForm(question.binary)
    answer["outputs"] = [
        _output(name, _formed(model, name, array, form), form, raws)
        for name, array in result.outputs.items()
        for form in (question.forms.get(name, default),)
    ]
    told = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raws:
        return Reply(200, told)
    return Reply(200, b"".join([told, *raws]), (BINARY, (b"inference-header-content-length", b"%d" % len(told))))


def json_elements(question: Question, result: InferenceResult) -> int:
    """How many elements of an answer are to be written as text, which is what takes long."""
    elements = 0
    for name, array in result.outputs.items():
        form = question.forms.get(name)
        if not (form.binary if form else question.binary) or (form and form.classes) or array.dtype.hasobject:
            elements += array.size
    return elements


def _formed(model: ServedModel, name: str, array: np.ndarray, form: OutputForm) -> np.ndarray:
    return in_classes(model, name, array, form.classes) if form.classes else array


def _output(name: str, array: np.ndarray, form: OutputForm, raws: list[Buffer]) -> dict[str, Any]:
    """An output as JSON; its bytes, where it is to be given so, go to `raws`."""
    output: dict[str, Any] = {"name": name, "datatype": DATATYPES[array.dtype], "shape": array.shape}
    if form.binary:
        raws.append(to_raw(array))
        output["parameters"] = {"binary_data_size": len(raws[-1])}
    else:
        output["data"] = array.ravel().tolist() if array.dtype.hasobject else array.ravel()
    return output
