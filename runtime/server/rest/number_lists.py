"""Large requests read without a Python object for every number in them: these are most of what such a request costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import simdjson


class NumberList:
    """The flat list of numbers that is an input's ``data``."""

    def __init__(self, numbers: simdjson.Array) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def packed(self, dtype: np.dtype[Any]) -> np.ndarray | None:
        """The numbers as an array [count]; None where one of them is none, or is one that the type can't hold."""
        if dtype.kind not in "fiu":
            return None
        numbers: np.ndarray
        try:
            if dtype.kind == "f":
                numbers = np.frombuffer(self._numbers.as_buffer(of_type="d"), np.float64)
            else:
                numbers = np.frombuffer(self._numbers.as_buffer(of_type="i"), np.int64)
        except (TypeError, ValueError):
            return None
        with np.errstate(over="ignore"):  # what overflows is found by looking at the result
            array = numbers.astype(dtype)
        holds = np.isfinite(array).all() if dtype.kind == "f" else (array == numbers).all()
        return array if holds else None


def read_numbers(text: memoryview) -> dict[str, Any] | None:
    """The request that a text is, with a `NumberList` for the ``data`` of every input.

    None where it is anything else than a plain request of flat lists: what that is, and what is wrong with it, is for
    the common way to say.
    """
    try:
        request = _members(simdjson.Parser().parse(text))
        inputs = request.get("inputs")
        if not isinstance(inputs, simdjson.Array):
            return None
        request["inputs"] = [_members(inputs[index]) for index in range(len(inputs))]
    except (ValueError, TypeError, RuntimeError):
        return None
    lists = 1
    for tensor in request["inputs"]:
        lists += sum(isinstance(value, simdjson.Array) for value in tensor.values())
        if isinstance(data := tensor.get("data"), simdjson.Array):
            tensor["data"] = NumberList(data)
    if isinstance(request.get("outputs"), simdjson.Array):
        lists += 1
    if lists != np.count_nonzero(
        np.frombuffer(text, np.uint8) == ord("[")
    ):  # there are others, data that is nested say
        return None
    request["inputs"] = [_plain(tensor) for tensor in request["inputs"]]
    return _plain(request)


def _members(document: Any) -> dict[str, Any]:
    """The members of an object; raises TypeError for anything else, and where a name stands twice."""
    if not isinstance(document, simdjson.Object):
        raise TypeError
    names = list(document.keys())
    if len(set(names)) != len(names):
        raise TypeError
    return {name: document[name] for name in names}


def _plain(members: Mapping[str, Any]) -> dict[str, Any]:
    """The same with lists and objects of Python, where they are the parser's."""
    return {name: _value(value) for name, value in members.items()}


def _value(value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value
