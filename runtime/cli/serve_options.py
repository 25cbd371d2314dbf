"""The options of ``netspec serve``, in groups; their defaults are those of the settings that they become."""

from pathlib import Path
from typing import Any
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


def _setting(
    of: type[ModelOptions | Settings], flag: str, kind: "click.ParamType[Any]", metavar: str | None, help: str
) -> Decorator:
    """An option for the field of its name, whose default is its own, and is told."""
    default = getattr(of, flag.removeprefix("--").replace("-", "_"))
    return click.option(flag, type=kind, default=default, show_default=True, metavar=metavar, help=help)


MODEL_OPTIONS: tuple[Decorator, ...] = (
    _setting(
        ModelOptions,
        "--instances",
        click.IntRange(1, MAX_THREADS),
        "N",
        "Batches that run at once, each on its share of the threads.",
    ),
    _setting(
        ModelOptions,
        "--max-batch",
        click.IntRange(1, MAX_BATCH),
        "ROWS",
        "The most rows of different requests that run together; 1 for each request alone.",
    ),
    _setting(ModelOptions, "--max-delay", Seconds(zero=True), "SECONDS", "How long a batch waits for more rows."),
    _setting(
        ModelOptions,
        "--max-queue",
        click.IntRange(1, MAX_QUEUE),
        "N",
        "The most requests that wait for a model; more are answered 503.",
    ),
    click.option(
        "--timeout",
        type=Seconds(),
        metavar="SECONDS",
        help="How long a request may wait before it runs, unless it says so itself.  [default: no bound]",
    ),
)

SERVER_OPTIONS: tuple[Decorator, ...] = (
    _setting(Settings, "--host", click.STRING, "ADDRESS", "The address to listen on; 0.0.0.0 for all."),
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
    _setting(
        Settings,
        "--max-connections",
        click.IntRange(min=1),
        "N",
        "The most HTTP connections, and the most gRPC calls, at a time.",
    ),
    _setting(
        Settings,
        "--drain",
        Seconds(zero=True),
        "SECONDS",
        "How long a server that is stopped answers what it has accepted.",
    ),
    _setting(Settings, "--log-format", click.Choice(FORMATS), None, "The log's form."),
    _setting(Settings, "--log-level", click.Choice(LEVELS), None, "The least that the log tells."),
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
