"""``netspec serve``: models on the network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runtime.cli.device_options import DEVICE_OPTIONS, take_options
from runtime.cli.options import Seconds, device_option, options, threads_option
from runtime.cli.serve_options import KEY_OPTIONS, MODEL_OPTIONS, SERVER_OPTIONS
from runtime.errors import OutputError
from runtime.model_path import find_model
from runtime.server.settings import Settings
from runtime.server.stopping import Stopping
from runtime.serving.ahead import Ahead
from runtime.serving.memory import keep_one_pool, load_into_huge_pages
from runtime.serving.options import ModelOptions
from runtime.serving.sources import Files, Folder, is_name


@click.command("serve", epilog="Example: netspec serve runs/demo/model.onnx --port 8000")
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--repository", metavar="DIR", type=click.Path(path_type=Path), help="Serve the models in a folder.")
@click.option("--name", metavar="NAME", help="The model's name in URLs; the file's name without its suffix by default.")
@click.option(
    "--poll",
    type=Seconds(),
    metavar="SECONDS",
    help="Look for new, changed and removed models so often.  [default: only when asked to load]",
)
@device_option
@threads_option
@options(DEVICE_OPTIONS)
@options(MODEL_OPTIONS)
@options(SERVER_OPTIONS)
@options(KEY_OPTIONS)
def command(models: tuple[Path, ...], repository: Path | None, name: str | None, **given: Any) -> None:
    """Serve models over the Open Inference Protocol V2, by REST and gRPC, until SIGTERM or Ctrl-C.

    A MODEL is an .onnx file, or a directory that holds model.onnx. A repository is a folder with DIR/NAME/1/model.onnx
    for version 1 of the model NAME, and DIR/NAME/config.pbtxt where it is to be served otherwise than the options say.
    """
    if bool(models) == (repository is not None):
        raise click.UsageError("name either MODEL files or a --repository")
    options = take_options(ModelOptions, given)
    settings = _settings(given)
    if repository is not None and name is not None:
        raise click.UsageError("--name is for one MODEL; models of a repository are named after their folders")
    files = _named(models, name)
    keep_one_pool()
    load_into_huge_pages()
    with Stopping() as stopping, Ahead([*files.values()], options) as ahead:
        # Imported while the models load.
        from runtime.server.process import Needed, serve

        if repository is None:
            serve(Files(files, options), Needed.ALL, settings, _tell, stopping, ahead.open)
            return
        # The messages of the protocol take as long to import as all else here, and files have no configuration.
        from runtime.protocol.model_config import read_config

        needed = Needed.ONE if settings.poll is None else Needed.NONE
        serve(Folder(repository, options, read_config), needed, settings, _tell, stopping)


def _settings(given: dict[str, Any]) -> Settings:
    """The settings that the options ask for, once those that go together are together."""
    certificate, key, client_ca = (given.pop(part) for part in ("certificate", "private_key", "client_ca"))
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --private-key go together")
    if client_ca is not None and certificate is None:
        raise click.UsageError("--client-ca needs a --certificate of the server's own")
    port, rpc_port = given["port"], given["rpc_port"]
    if rpc_port is not None and rpc_port == port != 0:
        raise click.UsageError(f"HTTP and gRPC cannot both have port {port}: another --grpc-port, or off")
    if key is None:
        return Settings(**given)
    # Only who asks for TLS waits for it.
    from runtime.server.tls import Certificates

    return Settings(certificates=Certificates(certificate, key, client_ca), **given)


def _named(models: Sequence[Path], name: str | None) -> dict[str, Path]:
    """The files of the models by their names."""
    if name is not None and len(models) > 1:
        raise click.UsageError("--name is for one MODEL; several are named after their files")
    found: dict[str, Path] = {}
    for path in map(find_model, models):
        known = path.stem if name is None else name
        if not is_name(known):
            raise click.BadParameter(f"'{click.format_filename(known)}' cannot be a model's name", param_hint="--name")
        if known in found and path.resolve() == found[known].resolve():
            raise click.UsageError(f"{found[known]} is given twice")
        if known in found:
            raise click.UsageError(f"{found[known]} and {path} would both be the model '{known}'")
        found[known] = path
    return found


def _tell(line: str) -> None:
    try:
        click.echo(line)
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None
