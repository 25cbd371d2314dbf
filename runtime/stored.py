"""JSON that a model's metadata holds as text under a key, and what to say of a value that is broken."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn


class Broken(Exception):
    """What is wrong with a value, without the file that holds it."""


def broken(where: str, complaint: str) -> NoReturn:
    """Raises Broken about the value at `where`: a key, or a key and a place in its value."""
    raise Broken(f"{where} {complaint}")


def json_object(stored: Mapping[str, str], key: str) -> dict[str, Any]:
    """The JSON object under `key`, empty where there is none."""
    if key not in stored:
        return {}
    value = json_value(stored, key)
    if not isinstance(value, dict):
        broken(key, "is not a JSON object")
    return value


def json_value(stored: Mapping[str, str], key: str) -> Any:
    """The JSON value under `key`, which is there."""
    try:
        return json.loads(stored[key])
    except (ValueError, RecursionError):
        broken(key, "is not JSON")


def check_fields(where: str, value: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises Broken when the object at `where` has a field that is not among the known ones."""
    if unknown := sorted(set(value) - set(known)):
        broken(where, f"has the unknown field '{unknown[0]}'; a newer netspec may have written it")
