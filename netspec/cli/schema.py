"""`netspec schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from netspec.cli.common import refuse, show_diagnostics
from netspec.diagnostics import Findings, SpecError
from netspec.document import Document, read_document
from netspec.extension import extend
from netspec.files import write_whole
from netspec.schema.sections import spec_schema
from netspec.yaml_reader import parse, read_file
from netspec.zoo import find_spec


@click.command(epilog="Example: netspec schema --out netspec.schema.json")
@click.argument("spec", required=False)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, dir_okay=False), help="The file to write, in place of the screen."
)
def command(spec: str | None, out: Path | None) -> None:
    """Write the spec language as a JSON Schema, with which editors complete, document and check specs.

    With SPEC its blocks are part of the language too, so their names and arguments are completed and checked.
    """
    schema = spec_schema(_document(spec) if spec else None)
    text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write_whole(out, text)
    except OSError as error:
        refuse(f"`{out}` can't be written: {error.strerror or error}")


def _document(spec: str) -> Document:
    """The sections of a spec. What is wrong in its layers is no obstacle."""
    findings = Findings()
    try:
        path = find_spec(spec)
        document = read_document(extend(parse(read_file(path, str(path))), path.parent), path.stem, {}, findings)
    except SpecError as error:
        show_diagnostics(error.diagnostics)
        raise SystemExit(1) from None
    if document is None:
        show_diagnostics(findings)
        raise SystemExit(1)
    return document
