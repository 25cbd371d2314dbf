"""``netspec serve``: a model on the network."""

import contextlib
from pathlib import Path
from urllib.parse import quote

import click

from runtime.cli.options import device_option, threads_option
from runtime.engine_options import Device, EngineOptions
from runtime.model_path import find_model
from runtime.server.app import DEFAULT_MAX_BODY
from runtime.server.process import bind, load, quit_on_stop, serve, url_of


@click.command("serve", epilog="Example: netspec serve runs/demo/model.onnx --port 8000")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address to listen on; 0.0.0.0 for all.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port to listen on; 0 for any."
)
@device_option
@threads_option
@click.option("--name", metavar="NAME", help="The model's name in URLs; the file's name without its suffix by default.")
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_BODY,
    show_default="64 MiB",
    metavar="BYTES",
    help="The greatest size of a request.",
)
def command(
    model: Path, host: str, port: int, device: Device, threads: int | None, name: str | None, max_body: int
) -> None:
    """Serve MODEL over the Open Inference Protocol V2 (REST, JSON) until SIGTERM or Ctrl-C.

    MODEL is an .onnx file, or a directory that holds model.onnx.
    """
    if name is not None and (not name or "/" in name):
        raise click.BadParameter("a name in URLs is not empty and has no slash", param_hint="--name")
    path = find_model(model)
    name = name or click.format_filename(path.stem)
    with quit_on_stop(), contextlib.closing(bind(host, port)) as listener:
        session = load(path, EngineOptions(device, threads))
        where = f"{url_of(listener)}/v2/models/{quote(name)}"
        serve(
            session,
            name,
            listener,
            max_body,
            started=lambda: click.echo(f"serving {name} at {where} on {session.device} ({session.device_reason})"),
        )
