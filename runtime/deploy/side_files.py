"""The files beside a model that hold its weights."""

import mmap
import re
from pathlib import Path, PurePosixPath

# How the entry "location" of a tensor's external data begins in a protobuf file: the key, then the value's tag. The
# value follows with its length in front, in one byte, or in two where it is longer than 127.
_LOCATION = re.compile(rb"\n\x08location\x12(?:([\x00-\x7f])|([\x80-\xff])([\x00-\x7f]))")


def side_files(model: Path) -> dict[str, Path]:
    """The files that hold weights of a model which ONNX Runtime has loaded, by the names that it has for them.

    The names are looked for in the file's bytes; what only looks like one names no file.
    """
    found = {}
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for entry in _LOCATION.finditer(content):
            short, low, high = entry.groups()
            length = short[0] if short else (low[0] & 0x7F) | high[0] << 7
            name = content[entry.end() : entry.end() + length].decode(errors="replace")
            if name not in found and _stays(name) and (model.parent / name).is_file():
                found[name] = model.parent / name
    return found


def _stays(name: str) -> bool:
    """Whether a name leads nowhere but into the model's folder."""
    path = PurePosixPath(name)
    return name.isprintable() and not path.is_absolute() and ".." not in path.parts
