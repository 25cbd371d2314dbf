"""The server as a process: what it holds before the models load, its event loop, and how it ends."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

from runtime.errors import ModelError, SetupError
from runtime.server.address import bind, is_loopback, url_of
from runtime.server.keys import ADMIN_VARIABLE, KEYS_VARIABLE, Keys, ring
from runtime.server.limits import ConnectionLimits, raise_file_limit
from runtime.server.logs import logging_to_stderr
from runtime.server.settings import Settings
from runtime.server.stopping import Stopping
from runtime.serving.memory import give_back_freed_memory, keep_little_freed_memory
from runtime.serving.model import ServedModel
from runtime.serving.options import ModelOptions
from runtime.serving.repository import Entry, OpenSession, Repository
from runtime.serving.sources import Source
from runtime.session import Session

log = logging.getLogger(__name__)

SECRETS_SECONDS = 1.0
SHOWN_NAMES = 5
# Objects that may be garbage before the collector looks: a request leaves hardly any, one that fails its body perhaps.
GARBAGE = 5000


class Needed(Enum):
    """Which models have to load for the server to start."""

    ALL = auto()  # those that were named one by one
    ONE = auto()  # of a repository, in which some may be broken
    NONE = auto()  # of one that is looked at again


def serve(
    source: Source,
    needed: Needed,
    settings: Settings,
    tell: Callable[[str], None],
    stopping: Stopping,
    open_session: OpenSession = Session,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what was accepted and ends the process.

    Args:
        source: where the models come from.
        needed: which of them have to load.
        settings: how the server is reached, whom it serves, and when it gives up.
        tell: is given a line for each address when requests are answered there.
        stopping: hears the signals.
        open_session: loads a model's file.

    Raises:
        AddressError: an address is not to be had.
        SecretError: a file of keys or a certificate can't be used.
        ModelError: what is needed can't be loaded.
        SetupError: something that was asked for isn't installed.
    """
    with (
        logging_to_stderr(settings.log_format, settings.log_level) as end_log,
        contextlib.closing(bind(settings.host, settings.port)) as listener,
        _rpc_address(settings) as rpc_listener,
        _uncollected(),
    ):
        stopping.last = end_log
        repository = Repository(source, _read_override, open_session)
        process = _Process(repository, needed, settings, tell, listener, rpc_listener)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(process.run(stopping))
            # Here, with nothing left to be done: a model may still run, and the threads of gRPC and ONNX Runtime go on
            # whatever else is taken down around them.
            stopping.at_once()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """While it is entered garbage is not looked for, unless that is turned on again: imports make objects that stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rpc_address(settings: Settings) -> contextlib.AbstractContextManager[socket.socket | None]:
    """A socket that holds gRPC's port until gRPC itself takes it."""
    if settings.rpc_port is None:
        return contextlib.nullcontext()
    return contextlib.closing(bind(settings.host, settings.rpc_port, "--grpc-port"))


def _read_override(name: str, text: str, options: ModelOptions) -> ModelOptions:
    # Needed by few, and a tenth of the time that a model takes to load.
    from runtime.protocol.model_config import read_override

    return read_override(name, text, options)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":  # where there is no uvloop
        return None
    import uvloop

    return uvloop.new_event_loop


class _Process:
    """The server on its event loop."""

    def __init__(
        self,
        repository: Repository,
        needed: Needed,
        settings: Settings,
        tell: Callable[[str], None],
        listener: socket.socket,
        rpc_listener: socket.socket | None,
    ) -> None:
        """Reads keys and certificates, so that what is wrong with them is told before a model loads."""
        self._needed = needed
        self._settings = settings
        self._tell = tell
        self._listener = listener
        self._rpc_listener = rpc_listener
        self._repository = repository
        self._is_local = is_loopback(listener)
        users, admins = ring(settings.keys, KEYS_VARIABLE), ring(settings.admin_keys, ADMIN_VARIABLE)
        self._keys = Keys(users, admins, self._is_local)
        self._shown = _shown(settings)
        self._limits = ConnectionLimits(connections=raise_file_limit(settings.max_connections))
        self._tracing = None if settings.traces is None else _tracing(settings.traces)

    async def run(self, stopping: Stopping) -> None:
        """Serves until it is stopped, and answers what was accepted."""
        loading = asyncio.create_task(self._repository.start())
        front = await asyncio.to_thread(self._front)
        failed = await loading
        keep_little_freed_memory()  # not sooner: to load a model in blocks that are given back takes half as long again
        self._check_models(failed)
        self._warn()
        await front.open(self._listener, self._shown)
        rpc_port = None if self._rpc_listener is None else await front.open_rpc(self._rpc_listener, self._shown)
        # So that the garbage collector doesn't walk through all that was imported, nor too often, while requests wait.
        gc.freeze()
        gc.set_threshold(GARBAGE)
        gc.enable()
        asked = _asked(stopping)
        self._announce(rpc_port)
        with _background(self._watch_secrets(), *self._polling()):
            await asyncio.to_thread(give_back_freed_memory)  # what loading took; nobody waits for that
            await asked.wait()
            log.info("stopping: what was accepted is answered, for %g s at most", self._settings.drain)
            self._repository.draining = True
        await self._end(front)

    def _front(self) -> Any:
        # It takes as long to import as a model takes to load, and neither waits for the other.
        from runtime.server.front import Front

        return Front(self._repository, self._settings, self._keys, self._limits, self._tracing)

    async def _end(self, front: Any) -> None:
        """Answers what was accepted, for as long as that may take."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain
        await front.close(self._settings.drain)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        closing = asyncio.ensure_future(self._repository.close())
        await asyncio.wait([closing], timeout=max(0.0, deadline - loop.time()) + 0.1)
        log.info("stopped" if closing.done() else "stopped while a model was still running")

    def _check_models(self, broken: Sequence[Entry]) -> None:
        """Tells of models that can't be loaded; raises ModelError where what is needed isn't there."""
        entries = self._repository.index()
        if self._needed is not Needed.NONE and not entries:
            raise ModelError(
                "there is no model in the repository",
                help="a model is a folder DIR/NAME/1/model.onnx; with --poll the server waits for models to come",
            )
        is_fatal = self._needed is Needed.ALL or (self._needed is Needed.ONE and len(broken) == len(entries))
        for entry in broken[1:] if is_fatal else broken:  # the first one is what the command ends with
            log.warning("%s", entry.failure)
        if broken and is_fatal:
            more = f" (and {len(broken) - 1} more can't be loaded)" if len(broken) > 1 else ""
            raise ModelError(f"{broken[0].reason}{more}", broken[0].help or None)

    def _warn(self) -> None:
        if not self._is_local and not self._keys.is_needed:
            log.warning(
                "whoever reaches %s may ask the models: there are no keys (--keys)", url_of(self._listener, "")[3:]
            )
        if not self._is_local and self._keys.is_needed and self._shown is None:
            log.warning("keys cross the network in clear text: there is no TLS (--certificate, --private-key)")
        if self._limits.connections < self._settings.max_connections:
            most = self._limits.connections
            log.warning("there may be %d connections, as many as the limit of open files has room for", most)

    def _announce(self, rpc_port: int | None) -> None:
        url = url_of(self._listener, "https" if self._shown else "http")
        models = self._repository.models()
        self._tell(f"serving {_told(models, url)}")
        if rpc_port is not None:
            self._tell(f"serving gRPC at {url.partition('://')[2].rpartition(':')[0]}:{rpc_port}")

    async def _watch_secrets(self) -> None:
        while True:
            await asyncio.sleep(SECRETS_SECONDS)
            self._keys.refresh()
            if self._shown is not None:
                self._shown.refresh()

    def _polling(self) -> Sequence[Any]:
        return () if self._settings.poll is None else (self._repository.poll(self._settings.poll),)


def _shown(settings: Settings) -> Any | None:
    """The certificates that are shown, a `runtime.server.tls.Shown`; None without TLS; raises SecretError."""
    if settings.certificates is None:
        return None
    # Only who asks for TLS waits for it.
    from runtime.server.tls import Shown

    return Shown(settings.certificates)


def _tracing(url: str) -> Any:
    """What makes traces; raises SetupError where the extra for it is missing."""
    try:
        # An extra, which only those who ask for traces need.
        from runtime.server.tracing import Tracing, otlp_exporter
    except ModuleNotFoundError as error:
        raise SetupError(
            f"--traces needs {error.name}, which is not installed", help="pip install 'netspec[telemetry]'"
        ) from None
    return Tracing(otlp_exporter(url))


def _told(models: Sequence[ServedModel], url: str) -> str:
    """What is served, and where."""
    if len(models) == 1:
        (model,) = models
        return f"{model.name} at {url}/v2/models/{quote(model.name)} on {model.device} ({model.device_reason})"
    names = sorted({model.name for model in models})
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{', '.join(names[:SHOWN_NAMES]) or 'nothing yet'}{more} at {url}"


def _asked(stopping: Stopping) -> asyncio.Event:
    """What is set when the process is asked to end."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    stopping.call(lambda: loop.call_soon_threadsafe(asked.set))
    return asked


@contextlib.contextmanager
def _background(*work: Any) -> Iterator[None]:
    """Has coroutines run until it is left."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
