"""Models that begin to load before the server's own code is imported: either takes about as long as the other."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.engine import Cancellation
from runtime.engine_options import EngineOptions
from runtime.session import Session


class Ahead:
    """Sessions of some files, each begun in a thread when this is made.

    What still loads when it is left is given up, so that a server that can't start ends without waiting for its models.
    """

    def __init__(self, paths: Sequence[Path], options: EngineOptions) -> None:
        """Begins to load the files, all with the same options."""
        threads = ThreadPoolExecutor(max(len(paths), 1), thread_name_prefix="ahead")
        self._options = options
        self._cancellation = Cancellation()
        self._begun: dict[Path, Future[Session]] = {
            path: threads.submit(Session, path, options, self._cancellation) for path in paths
        }
        threads.shutdown(wait=False)

    def open(self, path: Path, options: EngineOptions) -> Session:
        """The session that was begun for a file, the first time it is asked for; else one that is loaded now.

        Raises what `Session` raises.
        """
        begun = self._begun.pop(path, None) if options == self._options else None
        return Session(path, options) if begun is None else begun.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancellation.cancel()
