"""``GET /v1/status``: what the page shows of the server and its models, in one reply.

``{"version", "ready", "seconds", "keys", "admin", "models": […]}``; `seconds` is a clock to measure by, `keys` whether
anybody has a key, and `admin` whether who asks may load and unload. A model is ``{"name", "version", "state",
"reason"}`` and, where it serves, ``"device"``, ``"inputs"`` and ``"outputs"`` (``{"name", "datatype", "shape"}``, −1
for any size; an input's ``"example"`` is a shape to try, −1 where nothing is known of a size), ``"answers"``
(``labels``, ``objects``, ``mask`` or ``tensors``), ``"image"`` (whether an image can be its input) and
``"statistics"``: counts since the server started, of which the page makes what happened between two looks.
"""

import time
from collections.abc import Callable
from typing import Any, get_args

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.answering.answer import classifier_output
from runtime.answering.image_input import image_input
from runtime.errors import InputError
from runtime.probing import known_shape
from runtime.protocol.description import server_metadata, tensor_metadata
from runtime.server.rest.openapi import operation
from runtime.server.rest.schemas import BOOLEAN, STRING, TENSOR, array, record
from runtime.serving.model import ServedModel
from runtime.serving.repository import Entry, Repository, State
from runtime.serving.statistics import LATENCY_BOUNDS
from runtime.task import Detection, Segmentation
from runtime.tensors import TensorSpec

MayAdminister = Callable[[Request], bool]


def status_route(repository: Repository, may_administer: MayAdminister, has_keys: Callable[[], bool]) -> Route:
    """The route of the status of the server and of the models in the repository."""
    version = server_metadata()["version"]

    async def status(request: Request) -> Response:
        serving = {(model.name, model.version): model for model in repository.models()}
        reply = {
            "version": version,
            "ready": repository.ready(),
            "seconds": time.monotonic(),
            "keys": has_keys(),
            "admin": may_administer(request),
            "models": [_entry(entry, serving.get((entry.name, entry.version))) for entry in repository.index()],
        }
        return Response(orjson.dumps(reply), headers={"cache-control": "no-store"}, media_type="application/json")

    return Route("/v1/status", status)


def status_paths() -> dict[str, Any]:
    """The status in the OpenAPI document."""
    model = record(
        ("name", "version", "state", "reason"),
        {
            "name": STRING,
            "version": STRING,
            "state": {"enum": list(get_args(State))},
            "reason": STRING,
            "device": STRING,
            "inputs": array(
                {**TENSOR, "properties": {**TENSOR["properties"], "example": TENSOR["properties"]["shape"]}}
            ),
            "outputs": array(TENSOR),
            "answers": {"enum": ["labels", "objects", "mask", "tensors"]},
            "image": BOOLEAN,
            "statistics": {"type": "object"},
        },
    )
    status = record(
        ("version", "ready", "seconds", "keys", "admin", "models"),
        {
            "version": STRING,
            "ready": BOOLEAN,
            "seconds": {"type": "number"},
            "keys": BOOLEAN,
            "admin": BOOLEAN,
            "models": array(model),
        },
    )
    return {"/v1/status": {"get": operation("The server and its models, for the page at /", status)}}


def _entry(entry: Entry, model: ServedModel | None) -> dict[str, Any]:
    told = {"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason}
    if model is None:
        return told
    return told | {
        "device": model.device,
        "inputs": [tensor_metadata(spec) | {"example": _example(model, spec)} for spec in model.inputs],
        "outputs": [tensor_metadata(spec) for spec in model.outputs],
        "answers": _answers(model),
        "image": _takes_image(model),
        "statistics": _counts(model),
    }


def _example(model: ServedModel, spec: TensorSpec) -> tuple[int, ...]:
    return known_shape(spec, model.metadata.preprocess.get(spec.name), rows=1)


def _answers(model: ServedModel) -> str:
    task = model.metadata.task
    if isinstance(task, Detection):
        return "objects"
    if isinstance(task, Segmentation):
        return "mask"
    return "tensors" if classifier_output(model) is None else "labels"


def _takes_image(model: ServedModel) -> bool:
    try:
        return not image_input("the image", model).regions
    except InputError:
        return False


def _counts(model: ServedModel) -> dict[str, Any]:
    counts = model.statistics
    whole = counts.latencies["request"]
    return {
        "requests": counts.success.count,
        "errors": counts.fail.count,
        "rows": counts.inference_count,
        "runs": counts.execution_count,
        "waiting": model.queue_depth,
        "bounds": LATENCY_BOUNDS,
        "buckets": whole.counts,
        "latency": whole.ns / 1e9,
        "greatest": whole.greatest_ns / 1e9,
        "stages": {
            stage: duration.ns / 1e9
            for stage, duration in {
                "queue": counts.queue,
                "input": counts.compute_input,
                "compute": counts.compute_infer,
                "output": counts.compute_output,
            }.items()
        },
    }
