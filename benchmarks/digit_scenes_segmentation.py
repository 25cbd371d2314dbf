"""A small U-Net trained from nothing on digit scenes, by `netspec train` on the CPU: mean IoU, and minutes.

What the last weights find is measured, so nothing is chosen by the held-out scenes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, Result, netspec_command, publish

SPEC = Path(__file__).parent / "specs" / "scenes_unet.yaml"
OVERLAP = 0.85
MINUTES = 10
PICTURE = "scenes_unet.png"


def train(out: Path) -> list[Result]:
    begun = time.monotonic()
    command = [netspec_command(), "train", str(SPEC), "--out", str(out), "--device", "cpu"]
    subprocess.run(command, check=True)
    minutes = (time.monotonic() - begun) / 60
    return results([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()], minutes)


def results(epochs: list[dict[str, Any]], minutes: float) -> list[Result]:
    last = epochs[-1]
    measured = [round(epoch["test_miou"], 4) for epoch in epochs if "test_miou" in epoch]
    what = f"on held-out digit scenes, {len(epochs)} epochs from nothing on {os.cpu_count()} cores"
    details = {"pixel accuracy": last["test_pixel_accuracy"], "mIoU by epoch": measured}
    return [
        Result("scenes_unet_miou", f"mean IoU of a U-Net {what}", last["test_miou"], OVERLAP, False, {}, details),
        Result("scenes_unet_minutes", f"minutes of training a U-Net {what}", minutes, MINUTES, True, {}),
    ]


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        found = train(out)
        if "--dry-run" not in sys.argv:
            shutil.copy(out / "segmentation.png", RESULTS / PICTURE)
    return publish(found)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
