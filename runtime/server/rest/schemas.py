"""What requests and answers are made of, as JSON Schema for the OpenAPI document."""

from typing import Any

from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.tensors import MAX_RANK

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
# What stands for "not given" in a parameter that only servers of another kind know.
UNSET: Schema = {"enum": [0, "0", "", False]}


def reference(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: tuple[str, ...], properties: Schema, **more: Any) -> Schema:
    """An object with these properties."""
    return {"type": "object", "required": list(required), "properties": properties, **more}


def array(items: Schema, **more: Any) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": items, **more}


def parameters(about: str, properties: Schema) -> Schema:
    """Parameters, of which those that nobody knows are ignored."""
    return {"type": ["object", "null"], "description": about, "properties": properties}


DATATYPE: Schema = {"type": "string", "enum": list(DATATYPES.values())}
SHAPE = array({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, maxItems=MAX_RANK)
INPUT = record(
    ("name", "datatype", "shape"),
    {
        "name": STRING,
        "datatype": DATATYPE,
        "shape": SHAPE,
        "data": array({}, description="The elements in row-major order, flat or nested as the shape says."),
        "parameters": parameters(
            "binary_data_size: the input's bytes behind the JSON, in place of 'data'.", {"binary_data_size": COUNT}
        ),
    },
)
WANTED = record(
    ("name",),
    {
        "name": STRING,
        "parameters": parameters(
            "binary_data: as bytes behind the JSON; classification: the greatest values with their labels instead.",
            {"binary_data": BOOLEAN, "classification": COUNT},
        ),
    },
)
REQUEST = record(
    ("inputs",),
    {
        "id": {"type": ["string", "null"]},
        "parameters": parameters(
            "timeout: microseconds that the request may wait; binary_data_output: all outputs as bytes.",
            {
                "timeout": COUNT,
                "binary_data_output": BOOLEAN,
                **dict.fromkeys(("priority", "sequence_id", "sequence_start", "sequence_end"), UNSET),
            },
        ),
        "inputs": array(INPUT),
        "outputs": array(WANTED, description="All where it is left out or empty."),
    },
)
OUTPUT = record(
    ("name", "datatype", "shape"),
    {
        "name": STRING,
        "datatype": DATATYPE,
        "shape": array(COUNT),
        "data": array({"type": ["number", "boolean", "string", "null"]}, description="null is NaN or infinity."),
        "parameters": record(("binary_data_size",), {"binary_data_size": COUNT}),
    },
)
ANSWER = record(
    ("model_name", "model_version", "outputs"),
    {"model_name": STRING, "model_version": STRING, "id": STRING, "outputs": array(OUTPUT)},
)
TENSOR = record(
    ("name", "datatype", "shape"),
    {"name": STRING, "datatype": DATATYPE, "shape": array({"type": "integer", "minimum": -1})},
)
DURATION = record(("count", "ns"), {"count": COUNT, "ns": COUNT})
STAGES = ("compute_input", "compute_infer", "compute_output")
OUTCOMES = ("success", "fail", "queue", *STAGES)
STATISTICS = record(
    ("name", "version", "last_inference", "inference_count", "execution_count", "inference_stats", "batch_stats"),
    {
        "name": STRING,
        "version": STRING,
        "last_inference": COUNT | {"description": "Milliseconds since 1970; 0 before the first."},
        "inference_count": COUNT | {"description": "Rows answered."},
        "execution_count": COUNT | {"description": "Runs of the model."},
        "inference_stats": record(OUTCOMES, dict.fromkeys(OUTCOMES, reference("Duration"))),
        "batch_stats": array(
            record(("batch_size", *STAGES), {"batch_size": COUNT, **dict.fromkeys(STAGES, reference("Duration"))})
        ),
    },
)
ENTRY = record(
    ("name", "version", "state", "reason"),
    {
        "name": STRING,
        "version": STRING,
        "state": {"type": "string", "enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
        "reason": STRING,
    },
)

SCHEMAS: dict[str, Schema] = {
    "Error": record(("error",), {"error": STRING}, additionalProperties=False),
    "Live": record(("live",), {"live": BOOLEAN}),
    "Ready": record(("ready",), {"ready": BOOLEAN}),
    "ModelReady": record(("name", "ready"), {"name": STRING, "ready": BOOLEAN}),
    "Server": record(
        ("name", "version", "extensions"), {"name": STRING, "version": STRING, "extensions": array(STRING)}
    ),
    "Model": record(
        ("name", "versions", "platform", "inputs", "outputs"),
        {
            "name": STRING,
            "versions": array(STRING),
            "platform": STRING,
            "inputs": array(TENSOR),
            "outputs": array(TENSOR),
        },
    ),
    "Config": {"type": "object", "description": "Triton's ModelConfig."},
    "Duration": DURATION,
    "Statistics": record(("model_stats",), {"model_stats": array(STATISTICS)}),
    "Request": REQUEST,
    "Answer": ANSWER,
    "IndexRequest": {"type": "object", "properties": {"ready": BOOLEAN}},
    "Index": array(ENTRY),
    "LoadRequest": {
        "type": "object",
        "properties": {
            "parameters": parameters(
                "config: a ModelConfig as JSON text, in place of the model's own.",
                {"config": {"type": ["string", "null"]}},
            )
            | {"additionalProperties": False}
        },
    },
    "UnloadRequest": {
        "type": "object",
        "properties": {"parameters": parameters("", {"unload_dependents": BOOLEAN}) | {"additionalProperties": False}},
    },
    "Nothing": {"type": "object", "maxProperties": 0},
    "NoRegions": {"type": "array", "maxItems": 0},
}
