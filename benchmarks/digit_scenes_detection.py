"""Detectors trained from nothing on digit scenes, by `netspec train` on the CPU: mean average precision, and minutes.

The specs are small variants of the zoo's. What the last weights find is measured, so nothing is chosen by the held-out
scenes. `python -m benchmarks.digit_scenes_detection yolo` trains one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, Result, keep, netspec_command

SPECS = Path(__file__).parent / "specs"
NAMES = ("yolo",)
PRECISION = 0.90  # at an IoU of 0.5
MINUTES = 15


def train(name: str) -> tuple[list[Result], Path | None]:
    """Trains a variant; what it reached and how long that took, with the last picture of the run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        begun = time.monotonic()
        command = [netspec_command(), "train", str(SPECS / f"scenes_{name}.yaml"), "--out", str(out), "--device", "cpu"]
        subprocess.run(command, check=True)
        minutes = (time.monotonic() - begun) / 60
        epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        pictures = sorted((out / "pictures").glob("*.png"))
        kept = shutil.copy(pictures[-1], tempfile.mkdtemp()) if pictures else None
    return results(name, epochs, minutes), Path(kept) if kept else None


def results(name: str, epochs: list[dict[str, Any]], minutes: float) -> list[Result]:
    last = epochs[-1]
    measured = [round(epoch["test_map50"], 4) for epoch in epochs if "test_map50" in epoch]
    what = f"of {name} on held-out digit scenes, {len(epochs)} epochs from nothing on {os.cpu_count()} cores"
    details = {"ratios": {"mAP": last["test_map"], "mAP50": last["test_map50"]}, "mAP50 by epoch": measured}
    return [
        Result(f"scenes_{name}_map50", f"mAP50 {what}", last["test_map50"], PRECISION, False, {}, details),
        Result(f"scenes_{name}_minutes", f"minutes of training {what}", minutes, MINUTES, True, {}),
    ]


def main() -> bool:
    parser = argparse.ArgumentParser(description="Detectors on digit scenes.")
    parser.add_argument("names", nargs="*", choices=NAMES, help="which variants; default: all")
    parser.add_argument("--dry-run", action="store_true", help="print only, keep nothing")
    chosen = parser.parse_args()
    met = True
    for name in chosen.names or NAMES:
        found, picture = train(name)
        met &= keep(found, chosen.dry_run)
        if picture is not None and not chosen.dry_run:
            shutil.copy(picture, RESULTS / f"scenes_{name}.png")
    return met


if __name__ == "__main__":
    raise SystemExit(not main())
