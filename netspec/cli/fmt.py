"""`netspec fmt`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from netspec.cli.common import refuse, show_diagnostics
from netspec.diagnostics import SpecError
from netspec.files import write_whole
from netspec.formatting import CannotFormat, format_spec
from netspec.source import Source
from netspec.yaml_reader import read_file

STANDARD_INPUT = "-"


@click.command(epilog="Example: netspec fmt my-net.yaml blocks/*.yaml --check")
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILES…")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 1 where a file would change.")
@click.option("--diff", "show_diff", is_flag=True, help="Write nothing; show what would change.")
def command(files: tuple[str, ...], only_check: bool, show_diff: bool) -> None:
    """Lay FILES out in one way: indentation, spaces, blank lines, the columns of comments. - is the standard input.

    Comments and what a spec says stay as they are. Exits with 1 where a file is not YAML.
    """
    outcomes = [_format(name, only_check, show_diff) for name in files]
    if None in outcomes or (only_check and True in outcomes):
        sys.exit(1)


def _format(name: str, only_check: bool, show_diff: bool) -> bool | None:
    """Lays one file out; whether that changes it, and None where it can't be done."""
    try:
        source = _read(name)
        text = format_spec(source)
    except SpecError as error:
        show_diagnostics(error.diagnostics)
        return None
    except CannotFormat:
        click.echo(f"{name}: left as it is: laid out, it would come to mean something else", err=True)
        return None
    changed = text != source.text
    if show_diff:
        click.echo(_difference(source, text), nl=False)
    if only_check and changed:
        click.echo(f"{name}: would change", err=True)
    if not only_check and not show_diff:
        _write(name, text, changed)
    return changed


def _read(name: str) -> Source:
    if name != STANDARD_INPUT:
        return read_file(Path(name))
    try:
        return Source("standard input", sys.stdin.buffer.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        refuse("the standard input is not UTF-8 text")


def _write(name: str, text: str, changed: bool) -> None:
    if name == STANDARD_INPUT:
        click.echo(text, nl=False)
    elif changed:
        try:
            write_whole(Path(name), text)
        except OSError as error:
            refuse(f"`{name}` can't be written: {error.strerror or error}", "what stood there before is unchanged")
        click.echo(f"{name}: formatted", err=True)


def _difference(source: Source, text: str) -> str:
    old, new = source.text.splitlines(keepends=True), text.splitlines(keepends=True)
    lines = difflib.unified_diff(old, new, source.name, f"{source.name}, formatted")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at the end\n" for line in lines)
