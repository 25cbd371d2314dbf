"""The `netspec` command. Its sub-commands are entry points of the group `netspec.commands`, loaded when called.

Ours are where they are by rule, `<package>.cli.<name>:command`, so no installed package is looked through for them.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from netspec.cli.interrupts import INTERRUPTED, ends_at_once, tell_interrupted

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUP = "netspec.commands"
OUR_PACKAGES = ("netspec", "compiler", "runtime")
# The order in which people meet them; commands of other packages follow.
ORDER = (
    "init", "validate", "summary", "explain", "draw", "diff", "list", "fmt", "schema", "compile", "train", "data",
    "proposals", "evaluate", "export", "convolutionalise", "predict", "bench", "serve",
    "deploy", "completion",
)  # fmt: skip
# What each does, so that `--help` need not load them.
SUMMARIES = {
    "init": "Write a spec to start from.",
    "validate": "Check specs and tell every mistake.",
    "summary": "Layers with shapes, parameters, MACs and receptive fields.",
    "explain": "Work one layer out by hand.",
    "draw": "The network as a picture.",
    "diff": "What changed between two specs.",
    "list": "The specs of the zoo.",
    "fmt": "Lay spec files out in one way.",
    "schema": "Write the language as a JSON Schema, for editors.",
    "compile": "Write a spec as PyTorch source that stands alone.",
    "train": "Train a spec on its data.",
    "data": "Write the images that a spec is trained on into folders.",
    "proposals": "Find regions of images that may hold an object.",
    "evaluate": "Measure a trained run, or its exported file, on held-out data.",
    "export": "Write a spec or a trained run as an ONNX file.",
    "convolutionalise": "Make a classifier fully convolutional, with its weights.",
    "predict": "Run a model on images or arrays.",
    "bench": "Find the best way to run a model on this machine.",
    "serve": "Serve a model over the Open Inference Protocol.",
    "deploy": "Write what Triton, KServe or Ray Serve runs.",
    "completion": "Print a script for completion in bash, zsh or fish.",
}


class Home(NamedTuple):
    """Where a command is: the attribute `attr` of a module."""

    name: str
    module: str
    attr: str


def home_of(name: str) -> Home | None:
    """Where a command is, ours or another package's; None where there is none of that name."""
    if name in ORDER:
        module = next(path for package in OUR_PACKAGES if find_spec(path := f"{package}.cli.{name}"))
        return Home(name, module, "command")
    from importlib.metadata import entry_points  # takes a tenth of the time of checking a small spec

    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    return Home(name, entry.module, entry.attr) if entry is not None else None


class Commands(click.Group):
    """A group whose commands are found among installed packages and imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from importlib.metadata import entry_points  # as above

        names = {*ORDER, *(entry.name for entry in entry_points(group=GROUP))}
        return [name for name in ORDER if name in names] + sorted(names.difference(ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = home_of(cmd_name)
        if home is not None and ctx.resilient_parsing:
            from netspec.cli.outline import outline  # completing imports no command

            return outline(home)
        return load_command(home) if home is not None else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # only completing needs it

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        own = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=SUMMARIES.get(name)) for name in names] + own

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell_interrupted()
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise click.ClickException("no space is left on the disk that the output goes to") from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from netspec.diagnostics import did_you_mean  # only a mistyped command needs it

            help = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"there is no command `{args[0]}`" + (f"; {help}" if help else ""), ctx) from error


def load_command(home: Home) -> click.Command:
    """Imports a command; what it needs and is not installed is told with the extra that brings it."""
    gc.disable()  # imports make objects that stay; looking for cycles among them takes long
    try:
        with ends_at_once():
            command = getattr(import_module(home.module), home.attr)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OUR_PACKAGES:
            raise
        extra = "serve" if home.module.startswith("runtime") else "train"
        message = f"`netspec {home.name}` needs {package}, which is not installed: pip install 'netspec[{extra}]'"
        raise click.UsageError(message) from None
    finally:
        gc.freeze()
        gc.enable()
    assert isinstance(command, click.Command)
    return command


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: netspec validate lenet5",
)
@click.version_option(package_name="netspec", message="netspec %(version)s")
def cli() -> None:
    """Networks as YAML specs: checked, trained with PyTorch, exported to ONNX, served on ONNX Runtime."""


def main() -> None:
    """The console script. Exit codes: 0 ok, 1 the input is wrong, 2 the command was used wrongly, 130 Ctrl-C."""
    # Plugins of pydantic are not ours to load; looking for them costs as much as checking a spec.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # what the terminal can't show, a file's odd name say, is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(prog_name="netspec")
    finally:
        gc.freeze()  # nothing is gained by looking for cycles in what the process leaves behind
