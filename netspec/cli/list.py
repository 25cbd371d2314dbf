"""`netspec list`."""

from __future__ import annotations

import json
from typing import Any

import click

from netspec.cli.tables import show_table
from netspec.loading import check
from netspec.ops.base import discover
from netspec.zoo import zoo


@click.command(epilog="Example: netspec list --format json")
@click.option("--ops", is_flag=True, help="The ops of the language instead, with their arguments.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="Default: table.")
def command(ops: bool, form: str) -> None:
    """List the specs of the zoo with their inputs, parameters and multiply-accumulates, by what they are for."""
    if ops:
        _list_ops(form)
        return
    specs = [facts for name, path in zoo() if (facts := _facts(name, path.parent.name)) is not None]
    if form == "json":
        click.echo(json.dumps({"specs": specs}, indent=2, ensure_ascii=False))
        return
    rows = [
        (
            spec["name"],
            spec["for"],
            ", ".join(" × ".join(str(size) for size in shape) for shape in spec["inputs"].values()),
            f"{spec['parameters']:,}",
            f"{spec['macs']:,}",
        )
        for spec in specs
    ]
    show_table(("name", "for", "inputs", "parameters", "MACs"), rows, ("parameters", "MACs"))


def _list_ops(form: str) -> None:
    """Every op with its arguments and the first line of what it is."""
    found = [
        {"name": kind, "arguments": list(op.model_fields), "what": (op.__doc__ or "").strip().partition("\n")[0]}
        for kind, op in sorted(discover(plugins=True).items())
    ]
    if form == "json":
        click.echo(json.dumps({"ops": found}, indent=2, ensure_ascii=False))
        return
    rows = [(str(op["name"]), ", ".join(op["arguments"]), str(op["what"])) for op in found]
    show_table(("op", "arguments", "what it is"), rows, ())


def _facts(name: str, purpose: str) -> dict[str, Any] | None:
    """What the list says of a spec; None for a library of blocks."""
    network = check(name).network
    if network is None:
        return None
    inputs = {key: list(network.concrete(network.layer(key)["output"].shape)) for key in network.inputs}
    return {
        "name": name,
        "for": purpose,
        "source": network.origin,
        "inputs": inputs,
        "parameters": network.parameters(),
        "macs": network.macs(),
    }
