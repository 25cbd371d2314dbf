"""Where models come from: files named on the command line, or a folder laid out as Triton's model repositories are.

::

    repository/
      resnet50/
        config.pbtxt       optional
        1/model.onnx       a version is a folder whose name is a number
        2/model.onnx
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runtime.errors import ModelError
from runtime.serving.options import ModelOptions

CONFIG_FILE = "config.pbtxt"
# The protocol has versions as signed numbers of 64 bits.
MAX_VERSION = 2**63 - 1

# What a file was when it was read: its size in bytes and its time of change in nanoseconds, by path.
Fingerprint = tuple[tuple[str, int, int], ...]
# The options that a config.pbtxt says beyond those given.
ReadConfig = Callable[[Path, ModelOptions], ModelOptions]
# The same of a configuration that stands in for a model's own.
Override = Callable[[ModelOptions], ModelOptions]


@dataclass(frozen=True)
class ModelFiles:
    """What a source has of one model.

    Attributes:
        name: its name.
        options: how it is to be served.
        versions: the versions to serve, with their files.
        fingerprints: for each version, what its files and the configuration look like now.
    """

    name: str
    options: ModelOptions
    versions: Mapping[str, Path]
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)


class Source(Protocol):
    """Somewhere to find models."""

    def names(self) -> list[str]:
        """The names of the models that are there now."""

    def find(self, name: str, override: Override | None = None) -> ModelFiles:
        """What is there of a model, served as its own configuration says, or `override` in its place.

        Raises:
            KeyError: there is no such model.
            ModelError: it is there, but in no shape to be served.
        """


def is_name(name: str) -> bool:
    """Whether a text can name a model: a part of a path that stays where it is, and that URLs and logs can show."""
    return bool(name) and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\:")


class Files:
    """Models that are one file each, all of version 1."""

    def __init__(self, paths: Mapping[str, Path], options: ModelOptions) -> None:
        """The files by the names of their models."""
        self._paths = dict(paths)
        self._options = options

    def names(self) -> list[str]:
        """The names of the models, in the order given."""
        return list(self._paths)

    def find(self, name: str, override: Override | None = None) -> ModelFiles:
        """A model's file; see `Source.find`."""
        path = self._paths[name]
        options = self._options if override is None else override(self._options)
        if options.versions.choose(["1"]) != ["1"]:
            raise ModelError(f"the configuration of '{name}' asks for other versions than 1, the only one of a file")
        if options.file not in (self._options.file, path.name):
            raise ModelError(f"the configuration of '{name}' asks for the file {options.file}, but its file is {path}")
        beside = [other for other in path.parent.glob("*") if other.name.startswith(path.name)]
        return ModelFiles(name, options, {"1": path}, {"1": _fingerprint(beside)})


class Folder:
    """The models in a repository's folder."""

    def __init__(self, root: Path, options: ModelOptions, read_config: ReadConfig) -> None:
        """The folder `root`, whose models are served as `options` say where their own configuration doesn't."""
        self._root = root
        self._options = options
        self._read_config = read_config

    def names(self) -> list[str]:
        """The names of the folders in it, sorted.

        Raises:
            ModelError: the folder can't be read.
        """
        try:
            return sorted(entry.name for entry in self._root.iterdir() if entry.is_dir() and is_name(entry.name))
        except OSError as error:
            raise ModelError(f"cannot read the model repository {self._root}: {error.strerror}") from None

    def find(self, name: str, override: Override | None = None) -> ModelFiles:
        """A model's versions; see `Source.find`."""
        folder = self._root / name
        if not is_name(name) or not folder.is_dir():
            raise KeyError(name)
        options, config = self._options, folder / CONFIG_FILE
        if override is not None:
            options = override(options)
        elif config.exists():
            options = self._read_config(config, options)
        there = _versions(folder)
        if not there:
            raise ModelError(
                f"{folder} has no version of a model",
                help=f"a version is a folder whose name is a number: {folder / '1' / options.file}",
            )
        wanted = options.versions.choose(list(there))
        if missing := [version for version in options.versions.specific if version not in there]:
            raise ModelError(f"the configuration asks for version {missing[0]}, but there is no {folder / missing[0]}")
        shared = [config] if config.exists() else []
        return ModelFiles(
            name,
            options,
            {version: there[version] / options.file for version in wanted},
            {version: _fingerprint([*shared, *there[version].rglob("*")]) for version in wanted},
        )


def _versions(folder: Path) -> dict[str, Path]:
    """The folders of versions, the oldest first; raises ModelError for a number that no version has."""
    found = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name.isascii() and entry.name.isdigit()]
    named = [entry for entry in found if entry.name == str(int(entry.name)) != "0"]
    if beyond := [entry for entry in named if int(entry.name) > MAX_VERSION]:
        raise ModelError(f"{beyond[0]} is no version: the greatest number of one is {MAX_VERSION}")
    return {entry.name: entry for entry in sorted(named, key=lambda entry: int(entry.name))}


def _fingerprint(files: list[Path]) -> Fingerprint:
    marks = []
    for file in sorted(files):
        try:
            found = file.stat()
        except OSError:  # it went away just now; the next look will tell
            continue
        marks.append((str(file), found.st_size, found.st_mtime_ns))
    return tuple(marks)
