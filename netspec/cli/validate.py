"""`netspec validate`."""

from __future__ import annotations

import json
import sys

import click

from netspec.cli.common import input_option, painter, set_option
from netspec.loading import Checked, check
from netspec.render import as_github, as_json, as_text, tally


@click.command(epilog="Example: netspec validate lenet5 my-net.yaml --set classes=100")
@click.argument("specs", nargs=-1, required=True)
@set_option
@input_option
@click.option("--strict", is_flag=True, help="Warnings are errors.")
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", help="Default: text.")
def command(
    specs: tuple[str, ...], settings: tuple[str, ...], inputs: tuple[str, ...], strict: bool, form: str
) -> None:
    """Check SPECS, given by path or by name in the zoo, and tell every mistake.

    What has no effect is a warning: a layer that nothing reads, an argument or a block that is never used, a condition
    that is never true, a setting without consequence.

    Exits with 0 where all are valid and with 1 where one is not.
    """
    outcomes = [check(spec, settings, inputs) for spec in specs]
    if strict:
        outcomes = [checked.strictly() for checked in outcomes]
    if form == "json":
        click.echo(json.dumps({"specs": [_as_json(checked) for checked in outcomes]}, indent=2, ensure_ascii=False))
    else:
        for checked in outcomes:
            (_show_github if form == "github" else _show_text)(checked)
    sys.exit(0 if all(checked.valid for checked in outcomes) else 1)


def _as_json(checked: Checked) -> dict[str, object]:
    from netspec.requirements import requirements  # takes longer to work out than the checks of a small spec

    return {
        "file": checked.file,
        "valid": checked.valid,
        "diagnostics": [as_json(diagnostic) for diagnostic in checked.diagnostics],
        "omitted": checked.omitted,
        "needs": [str(need) for need in requirements(checked.network)] if checked.network else [],
    }


def _show_github(checked: Checked) -> None:
    for diagnostic in checked.diagnostics:
        click.echo(as_github(diagnostic))


def _show_text(checked: Checked) -> None:
    paint = painter(sys.stdout)
    for diagnostic in checked.diagnostics:
        click.echo(as_text(diagnostic, paint) + "\n")
    found = tally(checked.diagnostics, checked.omitted)
    more = f", {found}" if found else ""
    if checked.network is not None:
        layers = sum(1 for _ in checked.network.layers())
        silent = checked.network.as_written or "\nexpect:" not in checked.network.text
        skipped = "" if silent else ", `expect` not checked: arguments or sizes were changed"
        more = (
            f", {layers} layer{'s' if layers != 1 else ''}, {checked.network.parameters():,} parameters{skipped}{more}"
        )
    elif checked.valid:
        more = f", a library of blocks{more}"
    click.echo(f"{checked.file}: {'valid' + more if checked.valid else found}")
