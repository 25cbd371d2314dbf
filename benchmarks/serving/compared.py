"""One model on one server beside the bare runtime: loads and raw loops in turns, so that both see the same machine."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.serving.loadgen import Load, Outcome, drive
from benchmarks.serving.models import bare_session, raw_loop
from benchmarks.serving.processes import Server
from benchmarks.serving.wire import Exchange, exchanges, infer_path

# As many threads as there are cores, on both sides.
THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Case:
    """A load of a closed loop: its title, what is sent, and on how many connections."""

    title: str
    exchanges: Sequence[Exchange]
    concurrency: int


@dataclass
class Turns:
    """What the rounds gave for one case, and for the raw loop beside it.

    Attributes:
        per_second: requests a second, by round.
        of_raw: the same over the runs a second of the raw loop of its round.
        p99: of the latencies, in milliseconds, by round.
        p99_raw: of the raw loop's runs.
        cpu: the server's processor time in milliseconds a request.
        cpu_raw: the raw loop's, a run.
    """

    per_second: list[float] = field(default_factory=list)
    of_raw: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    p99_raw: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cpu_raw: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in vars(self).items()}


class Measurement:
    """A model with some images for it, and what the bare session makes of them: what its servers are held against."""

    def __init__(
        self, path: Path, shape: Sequence[int], count: int, threads: int, load: Executor, rounds: int, seconds: float
    ) -> None:
        """Draws `count` images of a `shape`, and runs them on so many threads; `load` is the process of the clients."""
        self.path = path
        self._load = load
        self._rounds = rounds
        self._seconds = seconds
        self._raw = bare_session(path, threads)
        drawn = np.random.default_rng(0)
        self._feeds = [{"image": drawn.standard_normal(shape, np.float32)} for _ in range(count)]
        self._outputs = [self._raw.run(None, feeds)[0] for feeds in self._feeds]

    def cases(self, server: str, binary: bool, concurrencies: Sequence[int]) -> list[Case]:
        """The images sent to a server in one form, for each number of clients."""
        sent = exchanges(infer_path(self.path.stem), self._feeds, self._outputs, binary)
        form = "binary" if binary else "JSON"
        return [Case(title(server, form, concurrency), sent, concurrency) for concurrency in concurrencies]

    def compare(self, server: Server, cases: Sequence[Case], rounds: int | None = None) -> dict[str, Turns]:
        """Each case in turn with a raw loop before it, `rounds` times, by the titles of the cases.

        Raises:
            RuntimeError: an answer was wrong or did not come.
        """
        found = {case.title: Turns() for case in cases}
        for _ in range(rounds or self._rounds):
            for case in cases:
                turns = found[case.title]
                begun = time.process_time()
                taken = raw_loop(self._raw, self._feeds, self._seconds)
                turns.cpu_raw.append(1000 * (time.process_time() - begun) / len(taken))
                turns.p99_raw.append(1000 * float(np.percentile(taken, 99)))
                outcome, cpu = self._under_load(server, case)
                turns.cpu.append(cpu)
                turns.per_second.append(outcome.throughput())
                turns.of_raw.append(outcome.throughput() * sum(taken) / len(taken))
                turns.p99.append(1000 * outcome.percentile(99))
        return found

    def _under_load(self, server: Server, case: Case) -> tuple[Outcome, float]:
        """What came back, and the server's processor time in milliseconds a request."""
        begun, seconds = server.cpu_seconds(), self._seconds
        load = Load(server.port, case.exchanges, case.concurrency, seconds, warm_up=seconds / 4)
        outcome = self._load.submit(drive, load).result()
        if outcome.wrong or outcome.lost or not outcome.count():
            raise RuntimeError(f"{case.title}: {outcome.show()}")
        return outcome, 1000 * (server.cpu_seconds() - begun) / (outcome.throughput() * seconds * 1.25)


def title(server: str, form: str, concurrency: int) -> str:
    """What a case is called."""
    return f"{server}, {form}, {concurrency}"


def table(rows: dict[str, Turns]) -> str:
    """The medians as lines of text."""
    lines = [f"{'':36} {'/s':>9} {'of raw':>7} {'p99 ms':>8} {'raw p99':>8} {'CPU ms':>7} {'raw CPU':>7}"]
    for title, turns in rows.items():
        m = turns.medians()
        lines.append(
            f"{title:36} {m['per_second']:9.1f} {m['of_raw']:7.3f} {m['p99']:8.2f} {m['p99_raw']:8.2f} "
            f"{m['cpu']:7.2f} {m['cpu_raw']:7.2f}"
        )
    return "\n".join(lines)
