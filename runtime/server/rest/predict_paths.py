"""Predictions in the OpenAPI document."""

from typing import Any

from runtime.server.rest.image_body import FORM, IMAGE_TYPES
from runtime.server.rest.openapi import OF_BOTH, operation, path_parameters
from runtime.server.rest.schemas import COUNT, STRING, Schema, array, record

PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
CLASS: Schema = {"label": STRING, "index": COUNT}

RUNS = record(
    ("size", "counts"),
    {"size": array(COUNT, minItems=2, maxItems=2), "counts": array(COUNT)},
    description="COCO's run lengths without compression, column by column.",
)
ANSWER = record(
    ("model_name", "model_version", "height", "width"),
    {
        "model_name": STRING,
        "model_version": STRING,
        "height": COUNT,
        "width": COUNT,
        **CLASS,
        "probability": {"type": "number"},
        "top": array(record(("label", "index", "probability"), {**CLASS, "probability": {"type": "number"}})),
        "objects": array(
            record(
                ("label", "index", "score", "box"),
                {
                    "label": STRING,
                    "index": {"type": "integer"},
                    "score": {"type": "number"},
                    "box": array({"type": "number"}, minItems=4, maxItems=4),
                },
            ),
            description="The boxes are left, top, right, bottom in pixels of the image.",
        ),
        "classes": array(
            record(
                ("label", "index", "pixels", "share"),
                {**CLASS, "pixels": COUNT, "share": PROBABILITY, "segmentation": RUNS},
            )
        ),
        "mask": {"type": "string", "contentMediaType": "image/png", "contentEncoding": "base64"},
        "outputs": {"type": "object", "description": "The outputs of a model that says nothing of their meaning."},
    },
)


def _option(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": text}


OPTIONS = [
    _option("top", {"type": "integer", "minimum": 1, "default": 5}, "How many classes a classifier tells."),
    _option("score", PROBABILITY | {"default": 0}, "The score that an object needs to be told."),
    _option("format", {"enum": ["json", "png"]}, "JSON, or the image with the answer drawn on it; else as in Accept."),
    _option("mask", {"enum": ["png", "rle"]}, "A mask as a PNG of the classes' numbers, or as run lengths by class."),
]


def predict_paths() -> dict[str, Any]:
    """The paths of predictions."""
    paths = {}
    for version, names in (("", ("model",)), ("/versions/{version}", ("model", "version"))):
        about = operation("What a model says about an image", ANSWER, OF_BOTH)
        about["parameters"] = OPTIONS
        about["requestBody"] = {"required": True, "content": _bodies()}
        about["responses"]["200"]["content"]["image/png"] = {"schema": {}}
        paths["/v1/predict/{model}" + version] = {"post": about, **path_parameters(*names)}
    return paths


def _bodies() -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {"schema": record(("image",), {"image": file}, additionalProperties=False)}
    return {FORM: form, **{kind: {"schema": {}} for kind in sorted(IMAGE_TYPES)}}
