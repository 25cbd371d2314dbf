"""`netspec convolutionalise`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import torch

from compiler.cli.common import told
from compiler.cli.sources import find_source
from compiler.errors import CompilerError
from compiler.export import export
from compiler.files import write_text
from compiler.module import Container, build
from compiler.passes.convolutionalise import Convolutional, convolutionalise
from compiler.verify import TOLERANCE
from compiler.weights import fitting_weights, save_weights
from netspec.cli.common import set_option, show_diagnostics
from netspec.diagnostics import SpecError
from netspec.network import Network
from netspec.tensor import write_shape

_SIZE = re.compile(r"[1-9][0-9]{0,8}(?:[x×,][1-9][0-9]{0,8}){0,2}\Z")
SUFFIXES = (".yaml", ".yml", ".onnx")


def _size(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    if text is not None and not _SIZE.match(text):
        raise click.BadParameter(f"`{text}` is no size: write height and width, as in 448x672", ctx, option)
    return tuple(int(size) for size in re.split("[x×,]", text)) if text else ()


@click.command(epilog="Example: netspec convolutionalise runs/digits -o heat.onnx --verify")
@click.argument("source", metavar="SPEC|RUN")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="A spec, .yaml, with its weights beside it as .safetensors, or a model, .onnx.",
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="The classifier's: .safetensors or a PyTorch checkpoint."
)
@set_option
@click.option("--size", callback=_size, metavar="HxW", help="Of images, for reports. Default: the classifier's own.")
@click.option("--seed", type=int, default=0, help="Of the weights drawn where none are given. Default: 0.")
@click.option("--verify", is_flag=True, help="Compare both networks at the classifier's own size.")
@told
def command(
    source: str,
    output: Path,
    weights: Path | None,
    settings: tuple[str, ...],
    size: tuple[int, ...],
    seed: int,
    verify: bool,
) -> None:
    """Make a classifier, SPEC or the network of a training RUN, fully convolutional, with its weights.

    Its dense layers become convolutions, so that it takes larger images and gives scores for every place: a heat map.
    """
    if output.suffix not in SUFFIXES:
        raise click.BadParameter(f"`{output}` ends in none of {', '.join(SUFFIXES)}", param_hint="--output")
    found = find_source(source, settings, weights)
    network = found.network
    try:
        made = convolutionalise(network, size, found.labels)
    except SpecError as error:
        show_diagnostics(error.diagnostics)
        sys.exit(1)
    if not made.changed:
        help = "it is fully convolutional already: `netspec export` writes it as it is"
        raise CompilerError(f"no layer of `{network.name}` reads a whole map", help)
    given = fitting_weights(network, found.weights) if found.weights is not None else None
    classifier = build(made.before, seed, given).eval()
    module = build(made.network, weights=made.weights(classifier.state_dict())).eval()
    for line in _report(made):
        click.echo(line)
    if verify:
        _verify(made, classifier, module)
    if output.suffix == ".onnx":
        export(made.network, module, output)
        click.echo(f"{output}: written" + ("" if given else f", with weights drawn with seed {seed}"))
        return
    write_text(output, made.network.text)
    beside = output.with_suffix(".safetensors")
    if given is not None:
        save_weights(module.state_dict(), beside)
    click.echo(f"{output}: written" + (f", with its weights in {beside}" if given is not None else ", without weights"))


def _report(made: Convolutional) -> list[str]:
    """What became of each layer, and the heat map that comes out."""
    lines = []
    for path, old in made.before.layers():
        if path in made.rewrites:
            new = made.network.layer(path)
            shape = " × ".join(str(size) for size in made.network.concrete(new["output"].shape))
            weights = f", {new['parameters']:,} weights as before" if new["parameters"] else ""
            assert old["op"] is not None
            lines.append(f"{path}: {old['op'].kind} → {made.rewrites[path].op.kind}, {shape}{weights}")
    for name, node in made.network.outputs.items():
        shape = write_shape(made.network.layer(node)["output"].shape, made.network.sizes)
        lines.append(f"{name}: {shape}, {_places(made, node)}")
    return lines


def _places(made: Convolutional, node: str) -> str:
    """How far the places of a heat map lie apart."""
    (name,) = made.network.inputs
    layer = made.network.layer(node)
    if all(isinstance(size, int) for size in layer["output"].spatial):
        return f"as many places whatever the size of `{name}`"
    field = layer["receptive_field"]
    apart = " × ".join(str(jump) for jump in field.jump) if field is not None else ""
    return f"a place for every {apart} pixels of `{name}`" if apart else "scores for every place"


def _verify(made: Convolutional, classifier: Container, module: Container) -> None:
    """Holds both networks against each other on two drawn images of the classifier's own size.

    Raises:
        CompilerError: they differ.
    """
    images = torch.randn(2, *_own_size(made.before), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = [given if isinstance(given, tuple) else (given,) for given in (classifier(images), module(images))]
    worst = 0.0
    for scores, heat in zip(*pairs, strict=True):
        scale = float(scores.abs().max()) or 1.0
        worst = max(worst, float((scores - heat.reshape(scores.shape)).abs().max()) / scale)
    if not worst <= TOLERANCE:
        message = f"the two networks differ by {worst:.1e} of the greatest score at the classifier's own size"
        raise CompilerError(message, "nothing was written; please report this spec")
    click.echo(f"at the classifier's own size both agree within {worst:.1e} of the greatest score")


def _own_size(network: Network) -> list[int]:
    (name,) = network.inputs
    return [int(size) for size in network.concrete(network.layer(name)["output"].shape)[1:]]
