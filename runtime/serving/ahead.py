"""Models that begin to load before the server's own code is imported: either takes about as long as the other."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from runtime.engine_options import EngineOptions
from runtime.session import Session


class Ahead:
    """Sessions of some files, each begun in a thread when this is made."""

    def __init__(self, paths: Sequence[Path], options: EngineOptions) -> None:
        """Begins to load the files, all with the same options."""
        threads = ThreadPoolExecutor(max(len(paths), 1), thread_name_prefix="ahead")
        self._options = options
        self._begun: dict[Path, Future[Session]] = {path: threads.submit(Session, path, options) for path in paths}
        threads.shutdown(wait=False)

    def open(self, path: Path, options: EngineOptions) -> Session:
        """The session that was begun for a file, the first time it is asked for; else one that is loaded now.

        Raises what `Session` raises.
        """
        begun = self._begun.pop(path, None) if options == self._options else None
        return Session(path, options) if begun is None else begun.result()
