"""`netspec export`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from compiler.cli.common import told
from compiler.cli.sources import find_source
from compiler.errors import CompilerError
from compiler.export import export
from compiler.module import build
from compiler.onnx_graph import IR_VERSION, OPSET
from compiler.verify import TOLERANCE, Comparison, agrees, compare
from compiler.weights import MAX_LISTED, fitting_weights, not_finite
from netspec.cli.common import set_option

# Endings that say what an ONNX file is not.
OTHER_FORMATS = {
    *(".ckpt", ".engine", ".h5", ".json", ".keras", ".npz", ".pb", ".pt", ".pt2", ".pth", ".py", ".safetensors"),
    *(".tflite", ".txt", ".yaml", ".yml"),
}


def _check_ending(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuses as wrong usage a file whose ending says another format than what is written."""
    if path is not None and path.suffix.lower() in OTHER_FORMATS:
        name = path.with_suffix(".onnx")
        why = f"an ONNX file is written, and {path.suffix} says another format; name it {name}"
        raise click.BadParameter(why, context, option)
    return path


@click.command(epilog="Example: netspec export runs/resnet --verify")
@click.argument("source", metavar="SPEC|RUN")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    callback=_check_ending,
    help="Default: RUN/model.onnx, or SPEC's name here.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="A .safetensors file or a PyTorch checkpoint.")
@set_option
@click.option("--seed", type=int, default=0, help="Of the weights drawn where none are given. Default: 0.")
@click.option("--as-trained", is_flag=True, help="Leave out what `deploy` puts into the graph.")
@click.option("--verify", is_flag=True, help="Compare ONNX Runtime with PyTorch on the exported file.")
@click.option("--tolerance", type=click.FloatRange(0), help=f"Of --verify. Default: {TOLERANCE:g}.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@told
def command(
    source: str,
    output: Path | None,
    weights: Path | None,
    settings: tuple[str, ...],
    seed: int,
    as_trained: bool,
    verify: bool,
    tolerance: float | None,
    form: str,
) -> None:
    """Write SPEC, or the network of a training RUN, as a checked ONNX file.

    A run is exported with its best weights, a spec with freshly drawn ones, unless --weights names others.
    """
    if tolerance is not None and not verify:
        raise click.UsageError("--tolerance is for --verify, which is not given")
    tolerance = TOLERANCE if tolerance is None else tolerance
    if not math.isfinite(tolerance):
        raise click.BadParameter(
            f"{tolerance} is no number that a difference can be held against", param_hint="--tolerance"
        )
    found = find_source(source, settings, weights)
    network, weights = found.network, found.weights
    output = output or (found.run / "model.onnx" if found.run else Path(f"{Path(network.file).stem}.onnx"))
    module = build(network, seed, fitting_weights(network, weights) if weights is not None else None).eval()
    if verify and (wrong := not_finite(module.state_dict())):
        more = f" and {len(wrong) - MAX_LISTED} more" if len(wrong) > MAX_LISTED else ""
        raise CompilerError(
            f"the weights hold NaN or infinity ({'; '.join(wrong[:MAX_LISTED])}{more})",
            "nothing is written: the training has diverged, or the file is damaged",
        )
    side = export(network, module, output, found.labels, served=not as_trained)
    results = compare(network, module, output, served=not as_trained) if verify else []
    facts = {
        "file": str(output),
        "side_file": str(side) if side else None,
        "bytes": output.stat().st_size + (side.stat().st_size if side else 0),
        "weights": str(weights) if weights is not None else None,
        "ir_version": IR_VERSION,
        "opset": OPSET,
        "verified": [asdict(result) for result in results],
    }
    if form == "json":
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        drawn = "" if weights is not None else f", weights drawn with seed {seed}"
        beside = f" (weights in {side.name})" if side else ""
        click.echo(f"{output}: {facts['bytes']:,} bytes, IR {IR_VERSION}, opset {OPSET}{drawn}{beside}")
        for result in results:
            click.echo(f"  {_describe(result)}")
    if not agrees(results, tolerance):
        raise CompilerError(
            f"ONNX Runtime and PyTorch differ by more than {tolerance:g} of a tensor's largest magnitude",
            f"the file `{output}` was written; do not serve it before this is understood",
        )
    if results and form == "text":
        click.echo(f"  ONNX Runtime agrees with PyTorch within {tolerance:g}")
        if all(result.detections == 0 for result in results):
            click.echo("  nothing is found in random images: what is chosen among was compared, the choice was not;")
            click.echo("  `netspec evaluate --model` compares what is found in real ones")


def _describe(result: Comparison) -> str:
    shapes = ", ".join(f"{name} {' × '.join(map(str, shape))}" for name, shape in result.shapes.items())
    found = "" if result.detections is None else f", {result.detections} boxes found"
    return (
        f"{shapes}: greatest difference {result.difference:.2e}, "
        f"{result.relative:.1e} of the tensor's largest magnitude{found}"
    )
