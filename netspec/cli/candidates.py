"""What shells offer for a spec, a layer of it, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from netspec.zoo import SUFFIXES, zoo

if TYPE_CHECKING:
    from netspec.network import Network


def complete_spec(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the zoo, and the spec files here; for anything else the shell looks for files."""
    names = [CompletionItem(name, help=path.parent.name) for name, path in zoo() if name.startswith(incomplete)]
    files = sorted(path.name for path in Path.cwd().glob("*") if path.suffix in SUFFIXES)
    found = names + [CompletionItem(name) for name in files if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def complete_layer(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The layers and containers of the spec that stands before."""
    network = _network(ctx)
    paths = [*network.nodes, *network.containers] if network else []
    return [CompletionItem(path) for path in paths if path.startswith(incomplete)]


def complete_container(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The containers of the spec that stands before, which a picture folds."""
    network = _network(ctx)
    return [CompletionItem(path) for path in (network.containers if network else ()) if path.startswith(incomplete)]


def _network(ctx: click.Context) -> Network | None:
    """The network of the spec that stands before; None where there is none, or it has mistakes."""
    from netspec.loading import check  # the whole language, which no other completion needs

    words = [ctx.params.get("spec"), *ctx.args]  # an unfinished option ends the parsing
    spec = next((word for word in words if word), None)
    return check(spec).network if spec else None


def complete_setting(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The arguments of the spec, and the keys of its sections, with the values that they have."""
    given = next((ctx.params[name] for name in ("spec", "specs", "source", "before") if ctx.params.get(name)), None)
    words = [given] if isinstance(given, str) else [*(given or ()), *ctx.args]  # an unfinished option ends the parsing
    return [CompletionItem(text) for word in words[:1] for text in _settings(word) if text.startswith(incomplete)]


def _settings(spec: str) -> Iterator[str]:
    # reads YAML, which the names of specs can do without
    from netspec.diagnostics import SpecError
    from netspec.extension import extend
    from netspec.overrides import SETTABLE_SECTIONS
    from netspec.yaml_reader import Mapping, Scalar, parse, read_file
    from netspec.zoo import find_spec

    try:
        path = find_spec(spec)
        root = extend(parse(read_file(path)), path.parent)
    except SpecError:
        return
    for section in ("args", *SETTABLE_SECTIONS):
        found = root.get(section) if isinstance(root, Mapping) else None
        for name, entry in found.entries.items() if isinstance(found, Mapping) else ():
            key, value = name if section == "args" else f"{section}.{name}", entry.value
            word = section == "args" and isinstance(value, Scalar) and isinstance(value.value, str) and not value.quoted
            yield f"{key}={value.text}" if isinstance(value, Scalar) and not word else f"{key}="  # a word is a type
