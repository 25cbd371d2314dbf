"""The zoo: specs that come with netspec and can be named without a path."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from netspec.diagnostics import Diagnostic, SpecError, did_you_mean
from netspec.source import whole_file

SUFFIXES = (".yaml", ".yml")


def zoo_folder() -> Path:
    """Where the specs lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "specs"
    return installed if installed.is_dir() else package.parent / "specs"


def zoo() -> Iterator[tuple[str, Path]]:
    """Every spec of the zoo by its name, the file's stem: netspec's own, then those of installed packages.

    A package adds a folder of specs by an entry point of the group `netspec.zoo`, which names a package beside them.
    """
    seen: set[str] = set()
    for folder in chain([zoo_folder()], _folders_of_packages()):
        for path in sorted(folder.rglob("*.yaml")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield path.stem, path


def _folders_of_packages() -> Iterator[Path]:
    from importlib.metadata import entry_points  # only where no spec of ours has the name
    from importlib.util import find_spec as find_module

    for entry in entry_points(group="netspec.zoo"):
        found = find_module(entry.value)  # without running the package
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            yield Path(folder)


def find_spec(spec: str | Path) -> Path:
    """The file of a spec given by path or by name in the zoo.

    Raises:
        SpecError: there is none.
    """
    path = Path(spec)
    try:
        if path.is_file() or path.suffix in SUFFIXES or len(path.parts) > 1 or isinstance(spec, Path) or path.is_dir():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    names: dict[str, Path] = {}
    for name, file in zoo():
        if name == spec:
            return _shortest(file)
        names[name] = file
    message = f"there is no file `{spec}`, and no spec of that name in the zoo"
    help = did_you_mean(str(spec), names) or "the zoo has " + ", ".join(f"`{name}`" for name in names)
    raise SpecError([Diagnostic("unknown-spec", message, whole_file(str(spec)), help=help)])


def _shortest(path: Path) -> Path:
    """A path as a person here would write it: relative to the working folder where it lies below."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
