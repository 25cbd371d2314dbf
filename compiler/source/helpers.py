"""Module classes of our own, and of packages that add ops, as text: with the imports and functions that they need."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import sys
import textwrap
from types import FunctionType, ModuleType
from typing import Any

import torch

from compiler.errors import CompilerError

LIBRARIES = ("torch", "typing", "collections", "math", "functools", "operator")


class Imports:
    """The imports of a file, each name once."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}  # with the name that each goes by
        self.names: dict[str, set[str]] = {}

    def take(self, module: str, name: str | None = None, known_as: str = "") -> None:
        """A module, or a name of it."""
        if name is None:
            self.modules[module] = known_as or module
        else:
            self.names.setdefault(module, set()).add(name)

    def lines(self) -> tuple[list[str], list[str]]:
        """The lines for Python's own modules, and for PyTorch's."""
        found: tuple[list[str], list[str]] = ([], [])
        for module, known_as in sorted(self.modules.items()):
            suffix = "" if known_as == module else f" as {known_as}"
            found[module.startswith("torch")].append(f"import {module}{suffix}")
        for module, names in sorted(self.names.items()):
            ordered = sorted(names, key=lambda name: (name.islower(), name))
            found[module.startswith("torch")].append(f"from {module} import {', '.join(ordered)}")
        return found


class Helpers:
    """Collects the texts of classes and functions, each once, and the imports above them."""

    def __init__(self) -> None:
        self.imports = Imports()
        self.texts: dict[str, str] = {}
        self.seen: set[Any] = set()

    def add(self, thing: type | FunctionType) -> None:
        """Adds a class or function, after what it uses.

        Raises:
            CompilerError: its text or something that it uses can't be had.
        """
        if thing in self.seen:
            return
        self.seen.add(thing)
        try:
            text = textwrap.dedent(inspect.getsource(thing))
        except (OSError, TypeError):
            raise CompilerError(f"the source of {thing.__qualname__} can't be had") from None
        tree = ast.parse(text)
        home = vars(sys.modules[thing.__module__])
        names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
        for name in names:
            if name in home and home[name] is not thing and not hasattr(builtins, name):
                self.need(name, home[name], thing)
        self.texts[thing.__name__] = text.rstrip()

    def need(self, name: str, value: Any, user: type | FunctionType) -> None:
        """An import for what a name stands for, or its text where it is our own."""
        if isinstance(value, ModuleType):
            package, _, last = value.__name__.rpartition(".")
            if last == name and package:
                self.imports.take(package, name)
            else:
                self.imports.take(value.__name__, known_as=name)
            return
        if getattr(torch, name, None) is value:
            self.imports.take("torch", name)
            return
        home = str(getattr(value, "__module__", "")).lstrip("_")
        if isinstance(value, float) and name in vars(math):
            self.imports.take("math", name)
        elif home.partition(".")[0] in LIBRARIES and hasattr(sys.modules.get(home), name):
            self.imports.take(home, name)
        elif isinstance(value, type | FunctionType) and value.__module__ == user.__module__:
            self.add(value)
        elif isinstance(value, int | float | str | tuple):
            self.texts.setdefault(name, f"{name} = {value!r}")
        elif isinstance(value, type | FunctionType):
            self.add(value)
        else:
            raise CompilerError(f"{user.__qualname__} uses `{name}`, which can't be written out")
