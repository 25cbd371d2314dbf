"""Large requests read without a Python object for every number in them: these are most of what such a request costs.

The lists of numbers are taken out of the text, which leaves little to be read as JSON, and are read in parts: while the
parser is at work it keeps all other threads waiting, the event loop's among them.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import simdjson

# Bytes of a list that are read in one go, which takes a few milliseconds.
PART = 2**19
# What stands before the list, and how far back it is looked for.
KEY = re.compile(rb'"data"\s*:\s*\Z')
KEY_BYTES = 64
# A request with more lists has nested ones.
MOST_LISTS = 1024


class NumberList:
    """The flat list of numbers, one at least, that is an input's ``data``, by the text between its brackets."""

    def __init__(self, text: memoryview) -> None:
        self._text = text
        self._commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))

    def __len__(self) -> int:
        return len(self._commas) + 1

    def packed(self, dtype: np.dtype[Any]) -> np.ndarray | None:
        """The numbers as an array [count]; None where one of them is none, or is one that the type can't hold."""
        if dtype.kind not in "fiu":
            return None
        array = np.empty(len(self), dtype)
        end = 0
        for part in self._parts():
            numbers = _numbers(part, np.dtype(np.float64 if dtype.kind == "f" else np.int64))
            if numbers is None or end + len(numbers) > len(array):
                return None
            packed = array[end : end + len(numbers)]
            with np.errstate(over="ignore"):  # what overflows is found by looking at the result
                packed[:] = numbers
            if not (np.isfinite(packed).all() if dtype.kind == "f" else (packed == numbers).all()):
                return None
            end += len(numbers)
        return array if end == len(array) else None

    def _parts(self) -> Iterator[memoryview]:
        """The text in parts that end before commas."""
        places = np.searchsorted(self._commas, np.arange(PART, len(self._text), PART))
        begin = 0
        for end in self._commas[np.unique(places[places < len(self._commas)])].tolist():
            yield self._text[begin:end]
            begin = end + 1
        yield self._text[begin:]


def _numbers(text: memoryview, dtype: np.dtype[Any]) -> np.ndarray | None:
    """The numbers of a list without its brackets, as float64 or int64; None where one of them is none."""
    try:
        numbers = simdjson.Parser().parse(b"".join((b"[", text, b"]")))
        assert isinstance(numbers, simdjson.Array)
        return np.frombuffer(numbers.as_buffer(of_type="d" if dtype.kind == "f" else "i"), dtype)
    except (ValueError, TypeError, RuntimeError):
        return None


def read_numbers(text: memoryview) -> dict[str, Any] | None:
    """The request that a text is, with a `NumberList` for the ``data`` of every input.

    None where it is anything else than a plain request of flat lists: what that is, and what is wrong with it, is for
    the common way to say.
    """
    cut = _cut(text)
    if cut is None:
        return None
    outline, lists = cut
    try:
        request = orjson.loads(outline)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        return None
    tensors = [tensor for tensor in request["inputs"] if isinstance(tensor, dict) and "data" in tensor]
    if [tensor["data"] for tensor in tensors] != [[number] for number in range(len(lists))]:
        return None  # it has data elsewhere, or twice
    for tensor, numbers in zip(tensors, lists, strict=True):
        tensor["data"] = numbers
    return request


def _closing(text: memoryview, begin: int) -> int:
    """The place of the first closing bracket from `begin` on, or of the end. NumPy looks without stopping others."""
    for place in range(begin, len(text), PART):
        found = np.flatnonzero(np.frombuffer(text[place : place + PART], np.uint8) == ord("]"))
        if len(found):
            return place + int(found[0])
    return len(text)


def _cut(text: memoryview) -> tuple[bytes, list[NumberList]] | None:
    """A request with the lists that are some ``data`` taken out, and these; each one's number stands in its place."""
    opened = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("["))
    if len(opened) > MOST_LISTS:
        return None
    outline: list[bytes | memoryview] = []
    lists: list[NumberList] = []
    end = 0
    for begin in opened.tolist():
        if begin < end:  # a list in a list
            return None
        if not KEY.search(text[max(0, begin - KEY_BYTES) : begin]):
            continue
        outline += [text[end : begin + 1], b"%d" % len(lists)]
        end = _closing(text, begin)
        lists.append(NumberList(text[begin + 1 : end]))
    whole = b"".join([*outline, text[end:]])
    # No name may be written in a way in which it isn't found.
    return None if b"\\u" in whole else (whole, lists)
