"""What the measurements share: the machine's description, alternating timings, and how a result is kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

RESULTS = Path(__file__).parent / "results"


@dataclass
class Result:
    """A measured ratio and the limit it is held against; `times` are medians in milliseconds.

    Where several things were measured, `ratio` is the one that is nearest to the limit or furthest beyond it, and
    `details["ratios"]` has them all.
    """

    name: str
    what: str
    ratio: float
    limit: float
    at_most: bool
    times: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit

    def show(self) -> str:
        held = f"{'≤' if self.at_most else '≥'} {self.limit:g}: {'met' if self.met else 'MISSED'}"
        parts = [f"{name} {value:.3g} ms" for name, value in self.times.items()]
        parts += [f"{name} {value:.4g}" for name, value in self.details.get("ratios", {}).items()]
        return f"{self.name}: {self.ratio:.4g} ({held}) {self.what}; {', '.join(parts)}"


def worst(
    name: str,
    what: str,
    ratios: dict[str, float],
    limit: float,
    at_most: bool,
    times: dict[str, float],
    details: dict[str, Any],
) -> Result:
    """The result of several measurements that are held against one limit: the worst of them decides."""
    ratio = max(ratios.values()) if at_most else min(ratios.values())
    return Result(name, what, ratio, limit, at_most, times, {"ratios": ratios, **details})


def machine() -> dict[str, str]:
    """The machine and the libraries that a result depends on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    libraries = {name: version(name) for name in ("torch", "onnx", "onnxruntime-gpu", "networkx", "pydantic")}
    return {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version(), **libraries}


def alternate(
    candidates: dict[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 3,
    after: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Times of each candidate in milliseconds, one call of each in turn, so that a slow moment hits all alike.

    Args:
        after: what is done after each call, and not timed.
    """
    for call in candidates.values():
        for _ in range(warm_up):
            call()
            after()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for index in range(rounds):
        for name, call in order if index % 2 else reversed(order):
            begun = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - begun))
            after()
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def paired_ratio(times: dict[str, list[float]], ours: str, theirs: str) -> float:
    """The median of the ratios of neighbouring calls: a machine that slows down for a while changes both."""
    return statistics.median(a / b for a, b in zip(times[ours], times[theirs], strict=True))


def netspec_command() -> str:
    """The installed command, as a user starts it."""
    beside = Path(sys.executable).with_name("netspec")
    command = str(beside) if beside.exists() else shutil.which("netspec")
    assert command, "netspec is not installed"
    return command


def as_installed() -> dict[str, str]:
    """An environment in which Python keeps byte code, as an installer does: without it, all is compiled every time."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def in_child(function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What a function gives in a fresh process, where no memory and no cache of other measurements is in its way."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` would also count what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def publish(measure: Callable[[], Result | list[Result]]) -> bool:
    """Measures, prints the results, and keeps them in `benchmarks/results/` unless `--dry-run` is given.

    The arguments are read first. Returns whether all limits are met.
    """
    parser = argparse.ArgumentParser(description="A side-by-side measurement.")
    parser.add_argument("--dry-run", action="store_true", help="print only, keep nothing")
    dry = parser.parse_args().dry_run
    found = measure()
    return keep([found] if isinstance(found, Result) else found, dry)


def keep(results: list[Result], dry: bool) -> bool:
    """Prints results, and keeps them if this is no dry run; whether all are met."""
    for result in results:
        print(result.show())
        if not dry:
            RESULTS.mkdir(exist_ok=True)
            content = asdict(result) | {"met": result.met, "date": date.today().isoformat(), "machine": machine()}
            path = RESULTS / f"{result.name}.json"
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return all(result.met for result in results)
