"""Commands as shells complete them: their arguments and options, read from the source text without importing it.

A completion has to be there at once, and importing a command may mean importing PyTorch.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netspec.cli.candidates import complete_container, complete_layer, complete_setting, complete_spec

if TYPE_CHECKING:
    from netspec.cli.main import Home

# What stands for a spec, a layer or a setting, by the name of the parameter.
_COMPLETERS = {
    "spec": complete_spec,
    "specs": complete_spec,
    "source": complete_spec,
    "before": complete_spec,
    "after": complete_spec,
    "layer": complete_layer,
    "fold": complete_container,
    "unfold": complete_container,
    "settings": complete_setting,
}
_KEPT = ("is_flag", "multiple", "nargs", "help")


def outline(entry: Home) -> click.Command:
    """A command with the parameters of the one that the entry point names, which can be completed and not run."""
    command = next(node for node in _tree(entry.module).body if getattr(node, "name", "") == entry.attr)
    assert isinstance(command, ast.FunctionDef)
    found = [call for decorator in command.decorator_list for call in _calls(decorator, entry.module)]
    return click.Command(entry.name, params=[_parameter(call, module) for call, module in found])


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _calls(decorator: ast.expr, module: str) -> Iterator[tuple[ast.Call, str]]:
    """The calls of `click.option` and `click.argument` that a decorator comes down to, with the modules they are in."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in ("click.option", "click.argument"):
        yield decorator, module
        return
    if isinstance(decorator, ast.Call) and decorator.args:  # `@options(GROUP)`
        decorator = decorator.args[0]
    if isinstance(decorator, ast.Name):
        definition, place = _definition(decorator.id, module)
        if isinstance(definition, ast.FunctionDef | ast.Tuple):
            for node in ast.walk(definition):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.option":
                    yield node, place
        elif isinstance(definition, ast.Call):
            yield definition, place


def _definition(name: str, module: str) -> tuple[ast.AST | None, str]:
    """What a name of a module stands for, and the module where that is written."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return _definition(name, node.module)
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node, module
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in [
            ast.unparse(target) for target in targets if target
        ]:
            return node.value, module
    return None, module


def _parameter(call: ast.Call, module: str) -> click.Parameter:
    names = [_value(argument, module) for argument in call.args]
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    options = {key: _value(given[key], module) for key in _KEPT if key in given}
    kind = _type(given["type"], module) if "type" in given else None
    if not names[0].startswith("-"):
        options.pop("help", None)
        return click.Argument(names, type=kind, required=False, shell_complete=_COMPLETERS.get(names[0]), **options)
    option = click.Option(names, type=kind, **options)
    completer = _COMPLETERS.get(option.name or "")
    return click.Option(names, type=kind, shell_complete=completer, **options) if completer else option


def _type(node: ast.expr, module: str) -> click.Choice[str] | click.Path | None:
    """The types that help to complete: words to choose from, and paths."""
    if isinstance(node, ast.Name):
        definition, place = _definition(node.id, module)
        return _type(definition, place) if isinstance(definition, ast.expr) else None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.Choice":
        return click.Choice(list(_words(node.args[0], module)))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.Path":
        return click.Path()
    return None


def _value(node: ast.AST | None, module: str) -> Any:
    """The value of an expression; None where it is more than a literal, or a name for one."""
    if isinstance(node, ast.Name):
        definition, place = _definition(node.id, module)
        return _value(definition, place)
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except ValueError:
        return None


def _words(node: ast.AST | None, module: str) -> Iterator[str]:
    """The words that an expression lists: literals, the keys of a mapping, `[*names]`, `get_args` of a `Literal`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
        return
    if isinstance(node, ast.Name):
        node, module = _definition(node.id, module)
    for part in _parts(node):
        yield from _words(part, module)


def _parts(node: ast.AST | None) -> Sequence[ast.expr | None]:
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(keys=parts) | ast.Call(args=parts):
            return parts
        case ast.Starred(value=part) | ast.Subscript(slice=part):
            return [part]
        case _:
            return []
