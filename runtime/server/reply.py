"""Writing the answer to an inference request."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from runtime.protocol.datatypes import DATATYPES

VERSION = "1"


def write_reply(model: str, identity: str | None, outputs: Mapping[str, np.ndarray]) -> bytes:
    """The JSON of an answer; every tensor's data is flat, in row-major order.

    JSON has no NaN and no infinity: both become null, which clients that read the data into NumPy find as NaN.
    """
    reply: dict[str, Any] = {"model_name": model, "model_version": VERSION}
    if identity is not None:
        reply["id"] = identity
    reply["outputs"] = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype],
            "shape": array.shape,
            "data": array.ravel().tolist() if array.dtype.hasobject else array.ravel(),
        }
        for name, array in outputs.items()
    ]
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def write_error(message: str) -> bytes:
    """The JSON of an error."""
    return orjson.dumps({"error": message})
