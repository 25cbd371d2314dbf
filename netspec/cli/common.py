"""What the sub-commands share: how a spec is named on the command line, and how its mistakes are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import click

from netspec.diagnostics import Diagnostic, SpecError
from netspec.loading import check
from netspec.network import Network
from netspec.overrides import parse_overrides
from netspec.render import Paint, ansi, as_text, plain, tally

F = TypeVar("F", bound=Callable[..., Any])


def _check_settings(ctx: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Refuses as wrong usage what is not `name=value`; what is wrong with a value is told with the spec."""
    try:
        parse_overrides(settings)
    except SpecError as error:
        (wrong,) = error.diagnostics
        if wrong.code == "bad-setting":
            raise click.BadParameter(f"{wrong.message}; {wrong.help}", ctx, option) from None
    return settings


def set_option(function: F) -> F:
    """`--set name=value`, as often as wanted."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        callback=_check_settings,
        metavar="NAME=VALUE",
        help="Another value for an argument of the spec, or for a key of its sections: --set train.epochs=5.",
    )(function)


def input_option(function: F) -> F:
    """`--input image=1x3x200x264`, once for each input."""
    return click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=SHAPE",
        help="Sizes to check at, batch first, in place of the spec's own: --input image=1x3x200x264.",
    )(function)


def served_option(function: F) -> F:
    """`--served`: the served form in place of the network that is trained."""
    return click.option(
        "--served",
        is_flag=True,
        help="The served form: with the layers of `deploy`, and images as pixels if it says so.",
    )(function)


def painter(stream: Any) -> Paint:
    """Colour for a terminal, none for a file, a pipe, or where NO_COLOR asks for none."""
    return ansi if stream.isatty() and "NO_COLOR" not in os.environ else plain


def show_diagnostics(diagnostics: Iterable[Diagnostic], omitted: int = 0) -> None:
    """Diagnostics as text on the error stream, with their number below."""
    found = list(diagnostics)
    paint = painter(sys.stderr)
    for diagnostic in found:
        click.echo(as_text(diagnostic, paint) + "\n", err=True)
    if found:
        click.echo(tally(found, omitted), err=True)


def load_or_exit(
    spec: str, settings: Iterable[str], inputs: Iterable[str] = (), served: bool = False, to_train: bool = False
) -> Network:
    """The checked network, or its served form; after mistakes they are shown and the command ends with 1."""
    checked = check(spec, settings, inputs)
    checked = checked.to_train() if to_train else checked
    if checked.network is None:
        show_diagnostics(checked.obstacles, checked.omitted)
        sys.exit(1)
    if not served:
        return checked.network
    from netspec.deployed import deployed  # its recipes take a tenth of a short command's time

    return deployed(checked.network)


def refuse(message: str, help: str = "") -> NoReturn:
    """Ends the command with 1, saying what is wrong with its input."""
    click.echo(painter(sys.stderr)("error", "error") + f": {message}", err=True)
    if help:
        click.echo(f"  = help: {help}", err=True)
    sys.exit(1)
