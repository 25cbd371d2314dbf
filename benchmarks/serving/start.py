"""From the start of `netspec serve` to ready, against a process that only opens a bare session, ResNet-50."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.measuring import Result, keep, medians, paired_ratio
from benchmarks.serving.models import zoo_model
from benchmarks.serving.processes import netspec_serve

MODEL = "resnet50"
# It ends without the clearing up, which a server leaves until it is stopped.
BARE = """
import os
import sys
import numpy
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
os._exit(0)
"""


def until_ready(path: Path) -> float:
    """Seconds from the start of the server until it says that it is ready."""
    begun = time.perf_counter()
    with netspec_serve(path):
        return time.perf_counter() - begun


def until_loaded(path: Path) -> float:
    """Seconds from the start of a process until its bare session is there; then it ends."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE, path], check=True)
    return time.perf_counter() - begun


def measure(path: Path, rounds: int) -> Result:
    """Both in turns, after a first round that reads the files from the disk."""
    found: dict[str, list[float]] = {"ready": [], "bare session": []}
    for index in range(rounds + 1):
        times = {"bare session": until_loaded(path), "ready": until_ready(path)}
        for side, seconds in times.items() if index else ():
            found[side].append(1000 * seconds)
    return Result(
        "serving_start",
        "`netspec serve` of a ResNet-50 until it is ready over a process that imports ONNX Runtime and opens a session",
        paired_ratio(found, "ready", "bare session"),
        1.3,
        True,
        medians(found),
        {"rounds": rounds},
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--rounds", default=7, show_default=True)
def main(dry_run: bool, rounds: int) -> None:
    """Measure, print the ratio, and exit with 1 where it is missed."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(zoo_model(MODEL, Path(folder)), rounds)
    raise SystemExit(not keep([result], dry_run))


if __name__ == "__main__":
    main()
