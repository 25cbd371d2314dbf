"""From a pydantic model's fields to JSON Schemas of what may stand in a spec: values, or expressions for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from netspec.binding import describe

Schema = dict[str, Any]

# Editors read `1_000` by the rules of YAML 1.2, as text; what is text to netspec may be a number to them.
TEXT: Schema = {"type": ["string", "number", "boolean"]}
COUNT: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9][0-9_]*$"}]}
_COMPUTED = ("integer", "number", "boolean")


def documented(schema: Schema, text: str) -> Schema:
    """The schema with a description, plain and as Markdown."""
    own = {"allOf": [schema]} if "$ref" in schema else schema  # what stands beside a `$ref` counts for nothing
    return {**own, "description": text.replace("`", ""), "markdownDescription": text}


def described(name: str, known: Mapping[str, tuple[str, Schema]]) -> Schema:
    """The schema of a key with its description; a key without one takes anything."""
    text, schema = known.get(name, ("", {}))
    return documented(schema, text) if text else {}


def fields(model: type[BaseModel], expressions: bool = True) -> dict[str, Schema]:
    """The schema of every field of a model: type, range, default and description.

    Args:
        expressions: whether text may stand for a number, a truth value or a list.
    """
    whole = model.model_json_schema()
    definitions = whole.get("$defs", {})
    found = {}
    for name, given in whole.get("properties", {}).items():
        schema = _draft_7(given, definitions, expressions)
        field = model.model_fields[name]
        text = describe(field.annotation, tuple(field.metadata))
        if "default" in given and given["default"] is not None:
            schema["default"] = given["default"]
            shown = given["default"]
            text += f"; {str(shown).lower() if isinstance(shown, bool) else shown} if missing"
        found[name] = documented(schema, text[:1].upper() + text[1:])
    return found


def expression_or(*schemas: Schema) -> Schema:
    """Any of these, or an expression for it."""
    return {"anyOf": [*schemas, {"type": "string"}]}


def _draft_7(given: Schema, definitions: dict[str, Schema], expressions: bool) -> Schema:
    """A schema as pydantic makes it, in the words of draft 7, with expressions where there may be any."""
    parts = _alternatives(given, definitions, expressions)
    computed = any(part.get("type") in (*_COMPUTED, "array") or "enum" in part for part in parts)
    if expressions and computed:
        return expression_or(*parts)
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _alternatives(given: Schema, definitions: dict[str, Schema], expressions: bool) -> list[Schema]:
    if "$ref" in given:
        return _alternatives(definitions[given["$ref"].rpartition("/")[2]], definitions, expressions)
    if "anyOf" in given:
        return [part for one in given["anyOf"] for part in _alternatives(one, definitions, expressions)]
    if "const" in given:
        return [{"enum": [given["const"]]}]
    if "enum" in given:
        return [{"enum": given["enum"]}]
    if given.get("type") == "string":
        return [TEXT]
    schema = {key: value for key, value in given.items() if key not in ("title", "default", "prefixItems")}
    for key in ("items", "additionalProperties"):
        if isinstance(given.get(key), dict):
            schema[key] = _draft_7(given[key], definitions, expressions)
    if "prefixItems" in given:  # a pair, in the words of draft 7
        schema["items"] = [_draft_7(item, definitions, expressions) for item in given["prefixItems"]]
    if "properties" in given:
        schema["properties"] = {
            name: _draft_7(part, definitions, expressions) for name, part in given["properties"].items()
        }
    return [schema]
