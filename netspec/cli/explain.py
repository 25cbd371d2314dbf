"""`netspec explain`."""

from __future__ import annotations

import json
from typing import NoReturn

import click

from netspec.cli.common import input_option, load_or_exit, refuse, served_option, set_option
from netspec.diagnostics import did_you_mean
from netspec.explain import explain_container, explain_layer
from netspec.network import SERVED, Network, is_under


@click.command(epilog="Example: netspec explain lenet5 conv1")
@click.argument("spec")
@click.argument("layer")
@set_option
@input_option
@served_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
def command(spec: str, layer: str, settings: tuple[str, ...], inputs: tuple[str, ...], served: bool, form: str) -> None:
    """Work LAYER of SPEC out by hand: its output size, parameters, multiply-accumulates and receptive field."""
    network = load_or_exit(spec, settings, inputs, served)
    if layer in network.containers:
        heading = f"{layer}: {network.containers[layer].kind}, {network.containers[layer].span}"
        lines = explain_container(network, layer)
    elif layer in network.nodes:
        heading = _heading(network, layer)
        lines = explain_layer(network, layer)
    else:
        _refuse_unknown(network, layer)
    if form == "json":
        found = [{"what": line.what, "formula": line.formula, "result": line.result} for line in lines]
        click.echo(json.dumps({"spec": network.name, "layer": layer, "lines": found}, indent=2, ensure_ascii=False))
        return
    click.echo(heading)
    width = max(len(line.what) for line in lines)
    for line in lines:
        click.echo(f"  {line.what:<{width}}  {line}")


def _refuse_unknown(network: Network, path: str) -> NoReturn:
    around = next((known for known in network.left_out if is_under(path, known)), None)
    if around is None:
        refuse(f"`{network.name}` has no layer `{path}`", _served_hint(network, path))
    found = network.left_out[around]
    which = f"`{path}` is left out" if around == path else f"`{path}` is part of `{around}`, which is left out"
    values = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in found.values.items())
    reason = f"`{found.condition}` is false there" + (f": {values}" if values else "")
    refuse(f"{which}, as {reason}", f"its `when` stands at {found.span}")


def _served_hint(network: Network, path: str) -> str:
    """What may have been meant: a layer of the served form, or one that is called nearly so."""
    from netspec.deployed import deployed  # only where a name is not known

    form = deployed(network)
    for name in (path, f"{SERVED}.{path}"):
        if name in form.nodes or name in form.containers:
            return f"`{name}` is part of the served form: `netspec explain … {name} --served`"
    return did_you_mean(path, [*network.nodes, *network.containers])


def _heading(network: Network, path: str) -> str:
    layer = network.layer(path)
    kind = layer["op"].kind if layer["op"] else "input"
    through = "".join(f", in a `{frame.what}` ({frame.span})" for frame in reversed(layer["expansion"]))
    return f"{path}: {kind}, {layer['span']}{through}"
