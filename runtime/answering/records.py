"""An answer as JSON: the same object in ``netspec predict --format json`` and from the server."""

from typing import Any

from runtime.answering.answer import Answer
from runtime.tensors import type_name


def record_of(answer: Answer) -> dict[str, Any]:
    """The answer as a JSON object.

    A classifier's has ``label``, ``index``, ``probability`` and the list ``top``; a detector's the list ``objects`` of
    ``{"label", "index", "score", "box"}``; a segmenter's the list ``classes`` of ``{"label", "index", "pixels",
    "share"}``; any other has ``outputs``: by name, ``{"dtype", "shape", "data"}`` with nested lists, in which NaN and
    infinity become null when they are written.
    """
    if answer.top is not None:
        candidates = [
            {"label": candidate.label, "index": candidate.index, "probability": candidate.probability}
            for candidate in answer.top
        ]
        return candidates[0] | {"top": candidates}
    if answer.found is not None:
        return {
            "objects": [
                {"label": one.label, "index": one.index, "score": one.score, "box": list(one.box)}
                for one in answer.found
            ]
        }
    if answer.mask is not None:
        return {
            "classes": [
                {"label": region.label, "index": region.index, "pixels": region.pixels, "share": region.share}
                for region in answer.mask.regions
            ]
        }
    outputs = {
        name: {"dtype": type_name(array.dtype), "shape": list(array.shape), "data": array.tolist()}
        for name, array in answer.outputs.items()
    }
    return {"outputs": outputs}
