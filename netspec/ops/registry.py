"""Which ops there are, without importing those that nobody asks for.

A family of ops takes a few milliseconds to import, and a spec uses few families. Where an op is defined is read off
the families' texts, which takes a fraction of one.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_DEFINITION = re.compile(r'^    kind: ClassVar\[str\] = "(\w+)"', re.MULTILINE)


class Registry(MutableMapping[str, type[T]], Generic[T]):
    """The ops by name. One of a built-in family is imported with its family when it is first looked up."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._defined: dict[str, type[T]] = {}

    @cached_property
    def _families(self) -> dict[str, str]:
        """The module of every built-in op."""
        folder = Path(__file__).parent
        return {
            kind: f"{self._package}.{module.name}"
            for module in pkgutil.iter_modules([str(folder)])
            for kind in _DEFINITION.findall((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        }

    def __getitem__(self, kind: str) -> type[T]:
        if kind not in self._defined and kind in self._families:
            importlib.import_module(self._families[kind])
        return self._defined[kind]

    def __setitem__(self, kind: str, op: type[T]) -> None:
        if op.__module__.startswith(f"{self._package}.") and kind not in self._families:
            raise TypeError(f'{op.__qualname__} can\'t be found by its name: write `kind: ClassVar[str] = "{kind}"`')
        home = self._families.get(kind, op.__module__)
        other = self._defined.setdefault(kind, op)
        if home != op.__module__ or (other.__module__, other.__qualname__) != (op.__module__, op.__qualname__):
            first = home if home != op.__module__ else other.__module__
            raise TypeError(f"two ops are called {kind!r}: {first} and {op.__module__}")

    def __delitem__(self, kind: str) -> None:
        del self._defined[kind]

    def __iter__(self) -> Iterator[str]:
        for module in sorted(set(self._families.values())):
            importlib.import_module(module)
        return iter(dict(self._defined))

    def __len__(self) -> int:
        return len(list(iter(self)))
