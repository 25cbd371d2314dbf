"""Timing a model that is loaded in one way, in a process of its own: so memory is its own, and so is a crash."""

import multiprocessing
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from runtime.engine_options import EngineOptions
from runtime.errors import RunError, UserError
from runtime.probing import probe
from runtime.session import Session

# Runs of each instance, however short the time: less says nothing of how runs differ.
MIN_RUNS = 5
WARM_UPS = 2


@dataclass(frozen=True)
class Job:
    """A model, one way to load it, and what to run on it.

    Attributes:
        path: the model's file.
        options: how it is loaded.
        batches: rows at once, ascending; empty where the model fixes them.
        shapes: sizes of inputs by name, where the model leaves them free.
        seconds: how long all of it may take.
    """

    path: Path
    options: EngineOptions
    batches: tuple[int, ...]
    shapes: Mapping[str, Sequence[int]]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What one setting reached; one row of the report.

    Attributes:
        device: where it ran.
        threads: CPU threads of one run; None for ONNX Runtime's own choice.
        instances: how many runs at once.
        batch: the rows of a run.
        rows_per_second: of all instances together.
        p50_ms: the median time of one run; `p99_ms` likewise.
        runs: how many were timed.
        load_seconds: how long the model took to load.
        memory_mib: the most resident memory that the process had so far; None where the system does not tell.
    """

    device: str
    threads: int | None
    instances: int
    batch: int
    rows_per_second: float
    p50_ms: float
    p99_ms: float
    runs: int
    load_seconds: float
    memory_mib: float | None


def measure(job: Job) -> Iterator[Measured]:
    """Measures the job's batches one after the other; those that there is no time for are left out.

    Raises:
        UserError: the model cannot be loaded or run so.
        RunError: the process ended before it was done, for want of memory for example.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads and libraries half set up
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    try:
        while (message := receiver.recv()) is not None:
            if isinstance(message, UserError):
                raise message
            yield message
    except EOFError:
        process.join()
        raise RunError(
            f"the process that measured {job.path} ended with {process.exitcode}",
            help="when memory ran out, try smaller batches with --batch",
        ) from None
    finally:
        process.terminate()
        process.join()
        receiver.close()


def _child(job: Job, sender: "Connection[Measured | UserError | None, None]") -> None:
    """Sends what is measured, or the error that ended it, and None at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    try:
        for measured in _measured(job):
            sender.send(measured)
        sender.send(None)
    except UserError as error:
        sender.send(error)


def _measured(job: Job) -> Iterator[Measured]:
    started = time.perf_counter()
    session = Session(job.path, job.options)
    load_seconds = time.perf_counter() - started
    row_seconds = 0.0  # of the last batch's runs
    for position, batch in enumerate(job.batches or (1,)):
        left = job.seconds - (time.perf_counter() - started)
        needed = row_seconds * batch * (MIN_RUNS + WARM_UPS)
        if position and needed > left:
            return
        feeds = probe(session, batch, np.random.default_rng(0), job.shapes)
        share = left / (len(job.batches or (1,)) - position)
        latencies, seconds = _timed(session, feeds, job.options.instances, share)
        p50, p99 = np.percentile(latencies, (50, 99))
        rows = _rows(feeds) if not job.batches else batch
        row_seconds = float(p50) / rows
        yield Measured(
            device=session.device,
            threads=job.options.threads,
            instances=job.options.instances,
            batch=rows,
            rows_per_second=len(latencies) * rows / seconds,
            p50_ms=float(p50) * 1e3,
            p99_ms=float(p99) * 1e3,
            runs=len(latencies),
            load_seconds=load_seconds,
            memory_mib=_memory_mib(),
        )


def _rows(feeds: Mapping[str, np.ndarray]) -> int:
    """The rows that a model of a fixed batch takes: its first input's first size."""
    first = next(iter(feeds.values()), np.empty(()))
    return len(first) if first.ndim else 1


def _timed(
    session: Session, feeds: Mapping[str, np.ndarray], instances: int, seconds: float
) -> tuple[list[float], float]:
    """The time of each run in seconds, and the time in which all instances made them, warm-up left out."""
    with ThreadPoolExecutor(instances) as pool:
        for warm in [pool.submit(session.run, feeds) for _ in range(WARM_UPS * instances)]:
            warm.result()
        began = time.perf_counter()
        working = [pool.submit(_run_until, session, feeds, began + seconds) for _ in range(instances)]
        latencies = [latency for instance in working for latency in instance.result()]
        return latencies, time.perf_counter() - began


def _run_until(session: Session, feeds: Mapping[str, np.ndarray], end: float) -> list[float]:
    """Runs until the time `end`; how long each run took, in seconds."""
    latencies: list[float] = []
    while len(latencies) < MIN_RUNS or time.perf_counter() < end:
        began = time.perf_counter()
        session.run(feeds)
        latencies.append(time.perf_counter() - began)
    return latencies


def _memory_mib() -> float | None:
    """The most resident memory that this process had, in MiB; None where the system has no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 2**10 if found else None
