"""``netspec deploy``: what existing engines run, written from models."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import click
import orjson

from runtime.cli.options import format_option, options, threads_option
from runtime.cli.serve_options import MODEL_OPTIONS
from runtime.deploy import kserve, ray_serve, triton
from runtime.deploy.models import Deployed, open_models
from runtime.deploy.scale import Scale
from runtime.deploy.written import Content, write_folder
from runtime.errors import InputError
from runtime.serving.options import ModelOptions

Target = Literal["triton", "kserve", "ray"]

DEFAULT_MEMORY = "2Gi"

# What runs that which was written.
NEXT: dict[Target, str] = {
    "triton": "tritonserver --model-repository {folder}",
    "kserve": "put the folders of {folder} into the storage, then: kubectl apply -f {folder}",
    "ray": "serve run {folder}/serve.yaml",
}

# The options that go with some of the targets alone.
ONLY = {
    "backend": ("triton",),
    "replicas": ("kserve", "ray"),
    "max_replicas": ("kserve", "ray"),
    "memory": ("kserve",),
    "storage": ("kserve",),
    "image": ("kserve",),
}


@click.command("deploy", epilog="Example: netspec deploy triton runs/demo/model.onnx --name digits -o repository")
@click.argument("target", type=click.Choice(["triton", "kserve", "ray"]))
@click.argument("models", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="MODELS...")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where to write."
)
@click.option("--name", metavar="NAME", help="The model's name; that of its file, or of its directory, by default.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where the models will run."
)
@threads_option
@options(MODEL_OPTIONS)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    help="triton: what runs the models; python goes with a Triton that has no ONNX Runtime.  [default: onnxruntime]",
)
@click.option(
    "--replicas", type=click.IntRange(min=1), metavar="N", help="kserve, ray: copies of the server.  [default: 1]"
)
@click.option(
    "--max-replicas",
    type=click.IntRange(min=1),
    metavar="N",
    help="kserve, ray: as many when there is much to do.  [default: as --replicas]",
)
@click.option("--memory", metavar="QUANTITY", help="kserve: memory of a copy, as Kubernetes writes it.  [default: 2Gi]")
@click.option("--storage", metavar="URI", help="kserve: where you put the models, such as s3://bucket/models.")
@click.option(
    "--image", metavar="IMAGE", help="kserve: a container image with `netspec serve`, to use in place of Triton."
)
@click.option("--force", is_flag=True, help="Replace what is there though another wrote or changed it.")
@format_option
def command(
    target: Target, models: tuple[Path, ...], folder: Path, name: str | None, force: bool, style: str, **given: Any
) -> None:
    """Write what TARGET runs, so that it serves MODELS: .onnx files, or directories that hold model.onnx.

    \b
    triton  a model repository
    kserve  an InferenceService for each model, which reads it from --storage
    ray     a Ray Serve application of our own server

    For kserve and ray --threads is 1 by default, and a copy of the server has a CPU core for each thread.
    """
    _check_options(target, given)
    if name is not None and len(models) > 1:
        raise click.UsageError("--name goes with one model")
    gpu = given.pop("device") == "cuda"
    if target != "triton":
        given["threads"] = given["threads"] or 1  # a share of a machine is asked for by number
    chosen = {field.name: given.pop(field.name) for field in fields(ModelOptions) if field.name in given}
    # They are only looked at here; a configuration says where they run.
    served = ModelOptions(**chosen, device="cpu")
    scale = None if target == "triton" else _scale(served, gpu, given)
    deployed = open_models(models, name, served)
    if scale is None:
        files = triton.repository(deployed, given["backend"] or "onnxruntime", gpu)
    elif target == "kserve":
        files = kserve.services(deployed, scale, given["storage"], given["image"])
    else:
        files = ray_serve.application(deployed, scale, folder)
    write_folder(folder, files, force)
    _tell(target, folder, deployed, files, style)


def _scale(options: ModelOptions, gpu: bool, given: Mapping[str, Any]) -> Scale:
    """What the options ask for of a cluster."""
    replicas = given["replicas"] or 1
    try:
        return Scale(
            replicas,
            given["max_replicas"] or replicas,
            cpus=options.threads_of_a_run * options.instances,
            gpu=gpu,
            concurrency=2 * options.max_batch * options.instances,
            memory=given["memory"] or DEFAULT_MEMORY,
        )
    except InputError as error:  # options that contradict each other
        raise click.UsageError(error.message + (f"; {error.help}" if error.help else "")) from None


def _check_options(target: Target, given: Mapping[str, Any]) -> None:
    for option, targets in ONLY.items():
        if given[option] is not None and target not in targets:
            wanted = " and ".join(targets)
            raise click.UsageError(f"--{option.replace('_', '-')} goes with {wanted}, not with {target}")
    if target == "kserve" and not given["storage"]:
        raise click.UsageError("kserve reads models from a storage: name with --storage where you put them")
    if target == "kserve" and not kserve.is_uri(given["storage"]):
        example = "s3://bucket/models or pvc://claim/models"
        raise click.UsageError(f"--storage {given['storage']} is no URI; write for example {example}")


def _tell(target: Target, folder: Path, models: Sequence[Deployed], files: Mapping[str, Content], style: str) -> None:
    if style == "json":
        report = {
            "target": target,
            "directory": click.format_filename(folder),
            "models": [_about(deployed) for deployed in models],
            "files": sorted(files),
        }
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return
    for deployed in models:
        about = _about(deployed)
        rows = about["max_batch"]
        batches = f"batches of up to {rows}" if rows else "no batching: its rows belong together"
        warmup = "" if about["warmup"] else "; no warm-up, since its sizes are free"
        click.echo(f"{deployed.name}: {batches}{warmup}")
    click.echo(f"{len(files)} files in {click.format_filename(folder)}")
    click.echo(f"run it: {NEXT[target].format(folder=shlex.quote(click.format_filename(folder)))}")


def _about(deployed: Deployed) -> dict[str, Any]:
    model = deployed.model
    return {
        "name": model.name,
        "source": click.format_filename(model.path),
        "max_batch": model.max_batch,
        "warmup": bool(model.options.warmup),
        "labels": sum(map(len, deployed.labels.values())),
    }
