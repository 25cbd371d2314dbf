"""What an operator decides of a server, beside the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:  # settings are known before anything that takes time is imported
    from runtime.server.tls import Certificates

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = get_args(Level)

# So many of the largest bodies may be held at a time.
PENDING_BODIES = 8


@dataclass(frozen=True)
class Settings:
    """How a server is reached, whom it serves, and when it gives up.

    Attributes:
        host: the address that it listens on.
        port: the port of HTTP; 0 for any that is free.
        rpc_port: the port of gRPC, likewise; None for no gRPC.
        max_body: the most bytes of a request.
        max_connections: the most HTTP connections, and the most gRPC calls, at a time.
        keys: the file of the keys with which models may be asked; None for the environment's, or none.
        admin_keys: the file of those with which models may be loaded and unloaded, likewise.
        certificates: for TLS; None for none.
        poll: the seconds between two looks for new or changed models; None for none.
        drain: the seconds in which what was accepted is answered when the server is stopped.
        log_format: the log's form.
        log_level: the least that it tells.
        access_log: whether it tells of every request.
        traces: where OpenTelemetry traces are sent to; None for nowhere.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    rpc_port: int | None = 8001
    max_body: int = 64 * 2**20
    max_connections: int = 10_000
    keys: Path | None = None
    admin_keys: Path | None = None
    certificates: Certificates | None = None
    poll: float | None = None
    drain: float = 30.0
    log_format: Format = "text"
    log_level: Level = "info"
    access_log: bool = False
    traces: str | None = None

    @property
    def max_pending(self) -> int:
        """The most bytes of all requests that are read or wait."""
        return PENDING_BODIES * self.max_body
