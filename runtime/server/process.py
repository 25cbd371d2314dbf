"""The server as a process: its socket, its event loop, and how it ends."""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn

from runtime.engine_options import EngineOptions
from runtime.errors import AddressError
from runtime.server.app import App
from runtime.session import Session

# What was accepted before a stop may take this long to arrive whole and be answered.
DRAIN_SECONDS = 5


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address but not yet listening, so that nobody connects before the model is loaded.

    Raises:
        AddressError: the address is not to be had; the message says why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (socket.gaierror, UnicodeError):
        raise AddressError(
            f"there is no host '{host}'", help="127.0.0.1 is this machine, 0.0.0.0 any network"
        ) from None
    except OSError as error:
        raise _address_error(error, host, port) from None
    try:
        # A server that starts again need not wait until the connections of the last one have died away.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _address_error(error, host, port) from None
    return listener


def _address_error(error: OSError, host: str, port: int) -> AddressError:
    if error.errno == errno.EADDRINUSE:
        return AddressError(f"port {port} on {host} is in use", help="stop what uses it, or take another with --port")
    if error.errno == errno.EACCES:
        return AddressError(f"port {port} needs more rights than you have", help="take a --port from 1024 on")
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressError(f"{host} is no address of this machine", help="0.0.0.0 listens on all that it has")
    return AddressError(f"cannot listen on {host}, port {port}: {error.strerror}")


def url_of(listener: socket.socket) -> str:
    """The URL of a bound socket, with the port that the system chose where 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def quit_on_stop() -> contextlib.AbstractContextManager[None]:
    """While it is entered, SIGTERM or SIGINT ends the process at once with 0: for the time when nothing is served."""
    return _on_stop(lambda: os._exit(0))


@contextlib.contextmanager
def _on_stop(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` on SIGTERM and SIGINT."""
    previous = {number: signal.signal(number, lambda *_: act()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def load(path: Path, options: EngineOptions) -> Session:
    """A session in whose loading signals are heard; see `runtime.engine.load` for the errors.

    Python handles a signal between two steps of the main thread, and loading a model is one long step: hence a thread.
    """
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(Session, path, options).result()


def serve(session: Session, name: str, listener: socket.socket, max_body: int, started: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what was accepted and returns.

    Args:
        session: the model.
        name: its name in URLs.
        listener: a socket from `bind`.
        max_body: the greatest size of a request in bytes.
        started: called once when requests are answered.

    Raises:
        AddressError: another process took the address in the meantime.
    """
    try:
        listener.listen(2048)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _address_error(error, host, port) from None
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="infer") as workers:
        config = uvicorn.Config(
            App(session, name, workers, max_body),
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        server = _Server(config, started)
        # Uvicorn raises the signals that ended it once more when it is done: without a handler of our own these would
        # kill the process instead of letting it end with 0.
        with _on_stop(server.stop):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to answer requests."""
        await super().startup(sockets)
        self._tell_started()

    def stop(self) -> None:
        """Has the server finish what it accepted and end."""
        self.should_exit = True
