"""The options of ``netspec serve``, in groups; their defaults are those of the settings that they become."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from runtime.cli.options import Decorator, Seconds
from runtime.engine_options import MAX_THREADS
from runtime.server.settings import FORMATS, LEVELS, Settings
from runtime.serving.options import MAX_BATCH, MAX_QUEUE, ModelOptions

FILE = click.Path(path_type=Path)
MOST_PORT = 65535
PORT = click.IntRange(0, MOST_PORT)


def rpc_port(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """The port of gRPC, None for ``off``; the one after HTTP's where none is named, any where HTTP's is any."""
    if value is None:
        port: int = ctx.params["port"]
        return port + 1 if 0 < port < MOST_PORT else 0
    if value == "off":
        return None
    try:
        return int(PORT(value, param, ctx))
    except click.BadParameter:
        message = f"'{value}' is neither a port, 0 to {MOST_PORT}, nor `off`"
        raise click.BadParameter(message, ctx, param) from None


def collector(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The URL of a collector of traces."""
    if value is not None and not _is_url(value):
        raise click.BadParameter(f"'{value}' is not a URL like http://127.0.0.1:4318", ctx, param)
    return value


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or brackets around no address
        return False


MODEL_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--instances",
        type=click.IntRange(1, MAX_THREADS),
        default=ModelOptions.instances,
        show_default=True,
        metavar="N",
        help="Batches that run at once, each on its share of the threads.",
    ),
    click.option(
        "--max-batch",
        type=click.IntRange(1, MAX_BATCH),
        default=ModelOptions.max_batch,
        show_default=True,
        metavar="ROWS",
        help="The most rows of different requests that run together; 1 for each request alone.",
    ),
    click.option(
        "--max-delay",
        type=Seconds(zero=True),
        default=ModelOptions.max_delay,
        show_default=True,
        metavar="SECONDS",
        help="How long a batch waits for more rows.",
    ),
    click.option(
        "--max-queue",
        type=click.IntRange(1, MAX_QUEUE),
        default=ModelOptions.max_queue,
        show_default=True,
        metavar="N",
        help="The most requests that wait for a model; more are answered 503.",
    ),
    click.option(
        "--timeout",
        type=Seconds(),
        metavar="SECONDS",
        help="How long a request may wait before it runs, unless it says so itself.  [default: no bound]",
    ),
)

SERVER_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--host",
        default=Settings.host,
        show_default=True,
        metavar="ADDRESS",
        help="The address to listen on; 0.0.0.0 for all.",
    ),
    click.option(
        "--port",
        type=PORT,
        default=Settings.port,
        show_default=True,
        is_eager=True,
        help="The port of HTTP; 0 for any.",
    ),
    click.option(
        "--grpc-port",
        "rpc_port",
        callback=rpc_port,
        metavar="PORT|off",
        help="The port of gRPC; 0 for any.  [default: the one after --port, any after 65535]",
    ),
    click.option(
        "--max-body",
        type=click.IntRange(min=1),
        default=Settings.max_body,
        show_default="64 MiB",
        metavar="BYTES",
        help="The greatest size of a request.",
    ),
    click.option(
        "--max-connections",
        type=click.IntRange(min=1),
        default=Settings.max_connections,
        show_default=True,
        metavar="N",
        help="The most HTTP connections, and the most gRPC calls, at a time.",
    ),
    click.option(
        "--drain",
        type=Seconds(zero=True),
        default=Settings.drain,
        show_default=True,
        metavar="SECONDS",
        help="How long a server that is stopped answers what it has accepted.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default=Settings.log_format,
        show_default=True,
        help="The log's form.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default=Settings.log_level,
        show_default=True,
        help="The least that the log tells.",
    ),
    click.option("--access-log", is_flag=True, help="Log every request, without what it carries."),
    click.option(
        "--traces",
        callback=collector,
        metavar="URL",
        help="Send OpenTelemetry traces to a collector: http://127.0.0.1:4318, say.",
    ),
)

KEY_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--keys",
        type=FILE,
        metavar="FILE",
        help="Keys to ask models with, NAME:KEY lines.  [default: $NETSPEC_API_KEYS, or none]",
    ),
    click.option(
        "--admin-keys",
        type=FILE,
        metavar="FILE",
        help="Keys to load and unload models with.  [default: $NETSPEC_ADMIN_KEYS, or none]",
    ),
    click.option("--certificate", type=FILE, metavar="FILE", help="For TLS: the server's certificate, PEM."),
    click.option("--private-key", type=FILE, metavar="FILE", help="The certificate's key, PEM without a passphrase."),
    click.option("--client-ca", type=FILE, metavar="FILE", help="Let in only clients with a certificate of these."),
)
