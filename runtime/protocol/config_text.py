"""A model configuration as text: ``config.pbtxt`` or JSON is read, and errors say where in it they are."""

import json
import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format, text_format

from runtime.errors import ModelError
from runtime.model_path import is_stream
from runtime.protocol.messages import POOL, Message, ModelConfig
from runtime.text_file import MAX_BYTES, read_text

# Of the text format only what nesting needs: comments and strings are passed over.
_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'
    | (?P<field>[A-Za-z_]\w*) (?=\s*[:{<\[]) | (?P<open>[{<]) | (?P<close>[}>])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class ConfigText:
    """A configuration and where it was read.

    Attributes:
        message: the `ModelConfig`.
        source: what it was read from, in words.
        text: the text format that it was read from; empty where it was JSON.
    """

    message: Message
    source: str
    text: str = ""

    def error(self, path: str, why: str, help: str | None = None, nth: int = 0) -> ModelError:
        """What is wrong with the field at `path`, of which it is the `nth` occurrence."""
        return ModelError(f"{self.where(path, nth)}: '{path}' {why}", help=help)

    def where(self, path: str, nth: int = 0) -> str:
        """The source, and the line and column of the field or of the nearest one around it where they are known."""
        places = _places(self.text)
        while path and path not in places:
            path, nth = path.rpartition(".")[0], 0
        if not path:
            return self.source
        line, column = places[path][min(nth, len(places[path]) - 1)]
        return f"{self.source}:{line}:{column}"


def parse_config(path: Path) -> ConfigText:
    """Reads a ``config.pbtxt``.

    Raises:
        ModelError: the file cannot be read, or is no model configuration; the message has the line and column.
    """
    if is_stream(path):
        raise ModelError(f"{path} is not a regular file")
    text = read_text(path, "a model configuration", "UTF-8", ModelError)
    message = ModelConfig()
    try:
        text_format.Parse(text, message, descriptor_pool=POOL)
    except text_format.ParseError as error:
        place = f":{error.GetLine()}:{error.GetColumn()}" if error.GetLine() else ""
        raise ModelError(f"{path}{place}: {_plain(str(error))}", help=_HELP) from None
    return ConfigText(message, str(path), text)


def parse_json(text: str, source: str) -> ConfigText:
    """Reads a configuration from JSON, in which a load request carries it; `source` says so in error messages.

    Raises:
        ModelError: the text is no JSON, or no model configuration.
    """
    if len(text) > MAX_BYTES:
        raise ModelError(f"{source} is larger than {MAX_BYTES} characters: that is no model configuration")
    message = ModelConfig()
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ModelError(f"{source} is not a JSON object", help=_HELP)
        json_format.ParseDict(value, message, descriptor_pool=POOL)
    except RecursionError:
        raise ModelError(f"{source} is nested too deeply") from None
    except json_format.ParseError as error:
        raise ModelError(f"{source}: {_plain_of_json(str(error))}", help=_HELP) from None
    except ValueError as error:
        raise ModelError(f"{source} is no JSON: {error}", help=_HELP) from None
    return ConfigText(message, source)


# Where protobuf tells, level by level, which field of JSON it can't take, and why: that in words of ours.
_IN_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_EXPECTED = {
    re.compile(r"\bint\(\)|parse integer|for integer field"): "a whole number",
    re.compile(r"expected string"): "a text",
    re.compile(r"Expected true or false"): "true or false",
    re.compile(r"object is not iterable"): "a JSON object",
    re.compile(r"must be in \[\]"): "a list",
}
_HELP = "the fields are those of Triton's model configuration"


def _plain(message: str) -> str:
    """An error of protobuf's without its own mention of the place, and without a list of all fields that there are."""
    return re.sub(r"^\d+:\d+ : |\s+Available Fields.*", "", message, flags=re.DOTALL).replace("\n", " ")


def _plain_of_json(message: str) -> str:
    """The same of an error about JSON: the field, and what it takes."""
    why = _IN_FIELD.split(message)[-1]
    field = ".".join(_IN_FIELD.findall(message))
    for pattern, expected in _EXPECTED.items():
        if pattern.search(why):
            return f"'{field}' takes {expected}"
    why = _plain(re.sub(r"( at ModelConfig\S*)?\.*$", "", why))
    return f"'{field}': {why}" if field else why


def _places(text: str) -> dict[str, list[tuple[int, int]]]:
    """The line and column of each occurrence of a field, by its path, such as ``input.dims``, in text that was read."""
    lines = [0, *(newline.end() for newline in re.finditer("\n", text))]
    places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    around: list[str] = []
    name, named = "", False
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "field":
            name, named = token.group(), True
        if kind == "field" or (kind == "open" and not named):  # the latter: one more in a list of messages
            line = bisect_right(lines, token.start())
            places[".".join([*around, name])].append((line, token.start() - lines[line - 1] + 1))
        if kind == "open":
            around.append(name)
            named = False
        elif kind == "close":
            name, named = around.pop(), False
    return dict(places)
