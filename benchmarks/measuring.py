"""What the measurements share: the machine's description, alternating timings, and how a result is kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Result:
    """A measured ratio and the limit it is held against; `times` are medians in milliseconds."""

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
        times = ", ".join(f"{name} {value:.3g} ms" for name, value in self.times.items())
        return f"{self.name}: {self.ratio:.3f} ({held}) {self.what}; {times}"


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


def alternate(candidates: dict[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Times of each candidate in milliseconds, one call of each in turn, so that a slow moment hits all alike."""
    for call in candidates.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for index in range(rounds):
        for name, call in order if index % 2 else reversed(order):
            begun = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - begun))
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def paired_ratio(times: dict[str, list[float]], ours: str, theirs: str) -> float:
    """The median of the ratios of neighbouring calls: a machine that slows down for a while changes both."""
    return statistics.median(a / b for a, b in zip(times[ours], times[theirs], strict=True))


def publish(results: list[Result]) -> None:
    """Prints results, and keeps them in `benchmarks/results/` unless `--dry-run` is given."""
    parser = argparse.ArgumentParser(description="A side-by-side measurement.")
    parser.add_argument("--dry-run", action="store_true", help="print only, keep nothing")
    dry = parser.parse_args().dry_run
    for result in results:
        print(result.show())
        if not dry:
            RESULTS.mkdir(exist_ok=True)
            content = asdict(result) | {"met": result.met, "date": date.today().isoformat(), "machine": machine()}
            path = RESULTS / f"{result.name}.json"
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
