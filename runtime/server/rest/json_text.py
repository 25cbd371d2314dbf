"""JSON that clients send, read so that no text costs the server far more than its bytes."""

import contextlib
import gc
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from runtime.protocol.tensors import invalid, quoted
from runtime.serving.refused import Reason, Refused

# A text with more is not read: while it is, for a tenth of a microsecond a value at most, nobody else is answered, and
# its objects take up to 100 bytes each. There is room for an image of 3 × 640 × 640 numbers.
MOST_VALUES = 5 * 2**18
# By how many values each of these counts, where it stands in a text: strings and keys take longer than numbers.
MARKS = {",": 1, "[": 1, "{": 1, '"': 1, ":": 8}
# A shorter text can't have so many values that it would matter.
SHORT = 64 * 2**10


def check_size(text: memoryview, most: int = MOST_VALUES) -> None:
    """Raises Refused, TOO_LARGE, where a text has more than `most` values, by its `MARKS`, those within strings too."""
    if len(text) > SHORT and _values(text) > most:
        raise Refused(Reason.TOO_LARGE, f"the JSON has more than {most} values; tensors may come as bytes behind it")


def read_json(text: memoryview) -> Any:
    """The value that a text is, of a size that was checked; raises Refused, INVALID, where it isn't JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON{_infinite(text)}: {error}") from None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector from walking through what is read, again and again while it grows.

    In several threads at a time the first that ends has it collect again, which costs time and nothing else.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _values(text: memoryview) -> int:
    array = np.frombuffer(text, np.uint8)
    return sum(weight * int(np.count_nonzero(array == ord(mark))) for mark, weight in MARKS.items())


def _infinite(text: memoryview) -> str:
    """Words for the first input with NaN or infinity, which JSON has not; empty where that isn't what is wrong."""
    if len(text) > SHORT:
        return ""
    try:
        inputs = json.loads(bytes(text))["inputs"]  # which takes them, as orjson doesn't
        for tensor in inputs:
            try:
                json.dumps(tensor["data"], allow_nan=False)
            except ValueError:
                return f", which has neither NaN nor infinity (input {quoted(str(tensor['name']))})"
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return ""
