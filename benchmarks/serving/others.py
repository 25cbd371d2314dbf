"""Other servers with the same model on the same machine, each in an environment of its own.

`benchmarks/serving/rivals/README.md` says how the environments are made. A server whose environment is not there is
left out, and the result says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.processes import Server, free_port, running

MAX_BATCH = 32
LAUNCHERS = Path(__file__).parent / "rivals"


@dataclass(frozen=True)
class Rival:
    """A server.

    Attributes:
        title: what it is called.
        name: of its launcher and its environment.
        takes_binary: whether it takes binary tensors over REST.
        ready: the path that answers 200 when the model does, with the model's name to be put in.
    """

    title: str
    name: str
    takes_binary: bool = False
    ready: str = "/v2/models/{}/ready"

    def python(self) -> Path | None:
        """The interpreter of its environment: $PYTRITON_PYTHON and so on, or a folder of $NETSPEC_RIVALS."""
        named = os.environ.get(f"{self.name.upper()}_PYTHON")
        path = Path(named) if named else Path(os.environ.get("NETSPEC_RIVALS", "rivals")) / self.name / "bin" / "python"
        return path if path.exists() else None

    @contextmanager
    def serve(self, model: Path, threads: int, concurrency: int) -> Iterator[Server]:
        """The server with the model at work on this many threads, set up for this many clients."""
        port = free_port()
        script = LAUNCHERS / f"{self.name}_server.py"
        # Alone, a request would only be kept waiting for others.
        options = {"--port": port, "--threads": threads, "--max-batch": 1 if concurrency == 1 else MAX_BATCH}
        words = [str(word) for option in options.items() for word in option]
        with running([self.python() or "python", script, model, *words], port, self.ready.format(model.stem)) as server:
            yield server


PYTRITON = Rival("Triton (PyTriton)", "pytriton", takes_binary=True)
MLSERVER = Rival("MLServer", "mlserver")
LITSERVE = Rival("LitServe", "litserve", ready="/v2/health/ready")
RIVALS = (PYTRITON, MLSERVER, LITSERVE)


def available() -> tuple[list[Rival], list[str]]:
    """The rivals whose environments are there, and the titles of the others."""
    here = [rival for rival in RIVALS if rival.python()]
    return here, [rival.title for rival in RIVALS if rival not in here]
